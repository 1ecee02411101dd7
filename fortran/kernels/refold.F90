#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> The QR factorisation of an upper triangle whose columns have been permuted.
!>
!> The column that was number h is zero below row h.  So rows are folded from the last
!> one upwards, strip by strip: a strip involves only the columns that reach down to it, in
!> their new order, and only their rows of the new triangle.  That is half the work of
!> folding full rows (TSQR with the structure of the rows: Demmel, Grigori, Hoemmen,
!> Langou, SIAM J. Sci. Comput. 34, 2012, §4).
!>
!> Public: refold_by, rows_to_columns, pivots_proved.  The data is n-sized.
module TAGGED(leastsq_refold)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_ptr, c_f_pointer, c_loc
   use TAGGED(leastsq_team), only: team_size, run_team, order_t, wait_turn, pass_on, finished, meet, ALL_DONE
   use TAGGED(leastsq_panels), only: factor_panel, PANEL, OCTET
   use TAGGED(leastsq_pipeline), only: room_of
   use TAGGED(leastsq_tsqr), only: layout_t, layout_of, idle, visit, DEPTH
   implicit none (type, external)
   private
   public :: refold_by, rows_to_columns, pivots_proved

   !> The approximate number of rows in a strip.  Smaller strips follow the heights of the
   !> columns more closely, but need more work for each row.
   integer(ik), parameter :: STRIP = 128
   !> Columns that a thread copies at a time: whole cache lines of a row.
   integer(ik), parameter :: BAND = 64
   !> Guessed pivots may be smaller than the largest norm by the rounding error with which
   !> pivoted QR itself knows that norm.
   real(wp), parameter :: TIE = 1.0e-7_wp

   !> Data that the threads share.
   type :: refold_t
      type(c_ptr) :: team
      integer(ik) :: n, ldr
      type(c_ptr) :: r, qtf, heights, work
   end type refold_t

contains

   !> Factor the triangle r with its columns in another order, and update qtf with it.
   subroutine refold_by(team, n, r, ldr, qtf, heights, work)
      type(c_ptr), intent(in) :: team              !< kernels.h: lsq_team; or NULL
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(inout), target :: r(ldr, n)    !< zero below its diagonal; on return the new one
      real(wp), intent(in), target :: qtf(n)
      !> On entry the number of the column that becomes number k.  On return the number of
      !> leading diagonal elements that are at least the remaining norm of column k at that step.
      real(wp), intent(inout), target :: heights(n)
      real(wp), intent(inout), target :: work(*)   !< on return an accumulator of the new triangle
      type(refold_t), target :: job

      job = refold_t(team, n, ldr, c_loc(r), c_loc(qtf), c_loc(heights), c_loc(work))
      call run_team(team, refold_share, c_loc(job))
   end subroutine refold_by

   !> The work of one thread: every size-th strip, and the same share of the copies.
   subroutine refold_share(number, data) bind(c, name='')
      integer(ik), value :: number
      type(c_ptr), value :: data
      type(refold_t), pointer :: job
      type(layout_t) :: at
      real(wp), pointer, contiguous :: work(:), room(:), r(:, :), qtf(:), heights(:)
      integer(ik) :: ldb, rows

      call c_f_pointer(data, job)
      at = layout_of(job%n)
      call c_f_pointer(job%work, work, [at%length])
      call c_f_pointer(job%r, r, [job%ldr, job%n])
      call c_f_pointer(job%qtf, qtf, [job%n])
      call c_f_pointer(job%heights, heights, [job%n])
      call room_of(number, job%team, at, work, room)
      ! A third of the block's room is left, for the rows of a group and for `place`.
      ldb = strip_rows(job%n) + OCTET
      rows = ldb*at%width + 1
      call fold_strips(number, job%team, at, job%n, r, job%ldr, qtf, heights, room, ldb, work(at%triangle:), &
                       room(at%t - at%block + 1:), room(at%list - at%block + 1:), &
                       room(rows + PANEL*DEPTH*at%width:), room(rows:))
      if (meet(job%team, number, ALL_DONE)) return
      call take_columns(number, team_size(job%team), at, job%n, work(at%triangle:), job%ldr, r, heights, &
                        room(at%list - at%block + 1:))
   end subroutine refold_share

   !> Copy these columns from the accumulator to r, and compute the counts that refold_by returns.
   pure subroutine take_columns(number, sharers, at, n, triangle, ldr, r, right, limits)
      integer(ik), intent(in) :: number, sharers, n, ldr
      type(layout_t), intent(in) :: at
      real(wp), intent(in) :: triangle(at%ldt, at%width)
      real(wp), intent(inout) :: r(ldr, n), right(n)
      real(wp), intent(out) :: limits(n)
      integer(ik) :: from, j, k

      do j = 1, n
         limits(j) = (1 + TIE)*triangle(j, j)**2
      end do
      do from = 1 + number*BAND, n, sharers*BAND
         call rows_to_columns(n, from, min(from + BAND - 1, n), at%ldt, triangle, ldr, r)
         do k = from, min(from + BAND - 1, n)
            right(k) = real(proved_by(k, r(1, k), limits, n), wp)
         end do
      end do
   end subroutine take_columns

   !> The number of leading diagonal elements, of `most`, that are at least the remaining norm of
   !> column k at that step.
   pure function proved_by(k, column, limits, most) result(proved)
      integer(ik), intent(in) :: k, most
      real(wp), intent(in) :: column(k)
      real(wp), intent(in) :: limits(k)        !< the squares of the diagonal elements, with their TIE
      integer(ik) :: proved
      real(wp) :: remaining
      integer(ik) :: j

      remaining = column(k)**2
      proved = most
      do j = k - 1, 1, -1
         remaining = remaining + column(j)**2
         if (remaining > limits(j)) proved = j - 1
      end do
   end function proved_by

   !> The number of leading columns of the triangle r that pivoted QR would have chosen in this order.
   pure subroutine pivots_proved(n, r, ldr, limits, proved)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      real(wp), intent(out) :: limits(n)       !< scratch
      integer(ik), intent(out) :: proved
      integer(ik) :: k

      proved = n
      do k = 1, n
         limits(k) = (1 + TIE)*r(k, k)**2
         proved = min(proved, proved_by(k, r(1, k), limits, n))
      end do
   end subroutine pivots_proved

   !> Copy the columns from..to of a triangle that is stored by rows, with zeros below them,
   !> eight rows at a time.
   pure subroutine rows_to_columns(n, from, to, ldt, triangle, ldr, r)
      integer(ik), intent(in) :: n, from, to, ldt, ldr
      real(wp), intent(in) :: triangle(ldt, n)
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik) :: first, j, k

      do first = 1, to, OCTET
         do k = max(from, first), to
            do j = first, min(first + OCTET - 1, k)
               r(j, k) = triangle(k, j)
            end do
         end do
      end do
      do k = from, to
         r(k + 1:n, k) = 0
      end do
   end subroutine rows_to_columns

   !> The number of rows of all strips except the last.  That one is the widest and has about
   !> half as many rows, so that it takes its thread no longer than others.  At most 4/3 STRIP
   !> and an octet.
   pure function strip_rows(n) result(rows)
      integer(ik), intent(in) :: n
      integer(ik) :: rows
      integer(ik) :: whole_strips

      whole_strips = max(1_ik, n/STRIP)
      rows = OCTET*((2*n/(2*whole_strips + 1) + OCTET - 1)/OCTET)
   end function strip_rows

   subroutine fold_strips(number, team, at, n, r, ldr, qtf, heights, block, ldb, triangle, t, list, place, room)
      integer(ik), intent(in) :: number, n, ldr, ldb
      type(c_ptr), intent(in) :: team
      type(layout_t), intent(in) :: at
      real(wp), intent(in) :: r(ldr, n), qtf(n), heights(n)
      real(wp), intent(inout) :: block(ldb, at%width), triangle(at%ldt, at%width), t(PANEL, at%width)
      real(wp), intent(inout) :: list(at%width)    !< the numbers of the strip's columns
      real(wp), intent(inout) :: place(0:at%width)
      real(wp), intent(inout) :: room(at%width, PANEL*DEPTH)     !< rows of the triangle
      type(order_t) :: order
      integer(ik) :: above, rows, columns, before, k, old, most, whole

      order = order_t(team, number, number)
      most = strip_rows(n)
      do while (order%block*most < n)
         above = max(0_ik, n - (order%block + 1)*most)
         rows = n - order%block*most - above
         whole = OCTET*((rows + OCTET - 1)/OCTET)
         columns = 0
         before = 0
         place(0) = 0
         do k = 1, n
            old = int(heights(k), ik)
            if (old <= above) cycle
            columns = columns + 1
            if (old > above + rows) before = before + 1
            list(columns) = real(k, wp)
            place(columns) = real(before, wp)
            block(1:rows, columns) = r(above + 1:above + rows, old)
            block(rows + 1:whole, columns) = 0
         end do
         columns = columns + 1
         list(columns) = real(at%columns, wp)
         if (order%block > 0) before = before + 1
         place(columns) = real(before, wp)
         block(1:rows, columns) = qtf(above + 1:above + rows)
         block(rows + 1:whole, columns) = 0
         block(1:whole, columns + 1:PANEL*((columns + PANEL - 1)/PANEL)) = 0
         call fold_listed(columns, list, place, whole/OCTET, order, block, ldb, triangle, at%ldt, t, room, at%width)
         if (finished(order)) return
         order%block = order%block + team_size(team)
      end do
   end subroutine fold_strips

   !> fold_block of tsqr.F90 for some of the triangle's columns.  Each row of the triangle holds
   !> only the elements in columns of the previous strip, packed from the diagonal on; afterwards
   !> it holds those of this strip.  The last strip has all columns, so its rows are complete.
   subroutine fold_listed(columns, list, place, octets, order, block, ldb, triangle, ldt, t, rows, ldr)
      integer(ik), intent(in) :: columns, octets, ldb, ldt, ldr
      real(wp), intent(in) :: list(columns)
      real(wp), intent(in) :: place(0:columns)     !< number of columns up to this one in the previous strip
      type(order_t), intent(in) :: order
      real(wp), intent(inout) :: block(ldb, *), triangle(ldt, *), t(PANEL, PANEL*DEPTH)
      real(wp), intent(inout) :: rows(ldr, PANEL*DEPTH)   !< the rows of a group
      integer(ik) :: group, last, j, row, which, deep(DEPTH)

      do group = 1, columns, PANEL*DEPTH
         last = min(group + PANEL*DEPTH - 1, columns)
         if (wait_turn(order, int(list(last), ik))) return
         call spread_rows(group, last, columns, list, place, triangle, ldt, rows, ldr)
         which = 0
         do j = group, last, PANEL
            which = which + 1
            row = j - group + 1
            deep(which) = octets
            call factor_panel(octets, min(PANEL, columns - j + 1), block(1, j), ldb, rows(j, row), ldr, t(1, row))
            if (idle(t(1, row))) deep(which) = 0
            call visit(j + PANEL, last, group, j, 1_ik, deep(which), block, ldb, rows, ldr, t)
         end do
         call visit(last + 1, columns, group, group, which, deep, block, ldb, rows, ldr, t)
         do j = group, last
            row = int(list(j), ik)
            triangle(row:row + columns - j, row) = rows(j:columns, j - group + 1)
         end do
         if (pass_on(order, int(list(last), ik))) return
      end do
   end subroutine fold_listed

   !> Rows first..last of the strip's columns, with zeros where a column is new.
   pure subroutine spread_rows(first, last, columns, list, place, triangle, ldt, rows, ldr)
      integer(ik), intent(in) :: first, last, columns, ldt, ldr
      real(wp), intent(in) :: list(columns), place(0:columns)
      real(wp), intent(in) :: triangle(ldt, *)
      real(wp), intent(inout) :: rows(ldr, *)
      integer(ik) :: j, k, row, start

      do j = first, last
         row = int(list(j), ik)
         start = row - int(place(j), ik)
         if (place(j) > place(j - 1)) then
            do k = j, columns
               rows(k, j - first + 1) = merge(triangle(start + int(place(k), ik), row), 0.0_wp, &
                                              place(k) > place(k - 1))
            end do
         else
            rows(j:columns, j - first + 1) = 0
         end if
      end do
   end subroutine spread_rows

end module TAGGED(leastsq_refold)
