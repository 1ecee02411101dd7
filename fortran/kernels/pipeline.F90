#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Fold many blocks of rows into one triangle by a team of threads, as a pipeline.
!>
!> A block can use rows j to k of the triangle as soon as the block before it has finished
!> with them.  So the threads of a team fold blocks in turn, in the same order of
!> operations as one thread alone: no bit depends on the number of threads.  This is for
!> triangles so large that there are too few rows to give each thread a triangle of its own.
!>
!> Public: fold_diagonal_by, room_of; for C lsq_tsqr_room_size_<ISA> and lsq_tsqr_push_by_<ISA>.
!> Rows are m-sized, the rest is n-sized.
module TAGGED(leastsq_pipeline)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_ptr, c_null_ptr, &
      c_associated, c_f_pointer, c_loc
   use TAGGED(leastsq_team), only: team_t, team_size, run_team, order_t, finished, meet, ALL_DONE
   use TAGGED(leastsq_packing), only: pack_rows, moved
   use TAGGED(leastsq_panels), only: PANEL, OCTET
   use TAGGED(leastsq_tsqr), only: layout_t, layout_of, fold_block, find_filled, fill_of, pad_block, BLOCK_ROWS
   implicit none (type, external)
   private
   public :: fold_diagonal_by, room_of
   public :: TAGGED(lsq_tsqr_room_size), TAGGED(lsq_tsqr_push_by)

   !> Columns that a thread copies at a time: whole cache lines of a row.
   integer(ik), parameter :: BAND = 64

   !> Data that the threads share.
   type :: job_t
      integer(ik) :: n = 0, rows = 0
      integer(ik) :: filled_rows = 0           !< of the triangle, on entry
      type(c_ptr) :: work = c_null_ptr, team = c_null_ptr
      type(c_ptr) :: a = c_null_ptr, f = c_null_ptr    !< rows, or else
      integer(ik) :: a_type = 0, row_stride = 0, column_stride = 0, f_type = 0, f_stride = 0
      type(c_ptr) :: places = c_null_ptr       !< of the rows' columns, or NULL
      type(c_ptr) :: diagonal = c_null_ptr     !< a diagonal matrix
      type(c_ptr) :: r = c_null_ptr            !< and the triangle above it
      integer(ik) :: ldr = 0
   end type job_t

contains

   !> Doubles that a thread needs in addition to the accumulator.
   pure function TAGGED(lsq_tsqr_room_size)(n) result(length) bind(c)
      integer(ik), intent(in), value :: n
      integer(ik) :: length
      type(layout_t) :: at

      at = layout_of(n)
      length = at%heights - at%block
   end function TAGGED(lsq_tsqr_room_size)

   !> lsq_tsqr_push by a team.  No rows may be waiting in the accumulator, and none are
   !> afterwards.
   subroutine TAGGED(lsq_tsqr_push_by)(n, rows, a, a_type, row_stride, column_stride, &
                                       f, f_type, f_stride, work, places, team) bind(c)
      integer(ik), intent(in), value :: n, rows
      type(c_ptr), intent(in), value :: a, f           !< f is not NULL here
      integer(ik), intent(in), value :: a_type, row_stride, column_stride, f_type, f_stride
      real(wp), intent(inout), target :: work(*)
      type(c_ptr), intent(in), value :: places         !< as in lsq_tsqr_push
      type(c_ptr), intent(in), value :: team           !< kernels.h: lsq_team; or NULL
      type(job_t), target :: job
      type(layout_t) :: at

      at = layout_of(n)
      job%places = places
      job%n = n
      job%rows = rows
      call find_filled(at, work(at%triangle), job%filled_rows)
      job%work = c_loc(work(1))
      job%team = team
      job%a = a
      job%f = f
      job%a_type = a_type
      job%row_stride = row_stride
      job%column_stride = column_stride
      job%f_type = f_type
      job%f_stride = f_stride
      call run_team(team, fold_share, c_loc(job))
   end subroutine TAGGED(lsq_tsqr_push_by)

   !> The triangle of [R; D].  R is read above the diagonal of r and stays there.  The rows of the
   !> new triangle, without their first elements, become the columns of r below its diagonal.
   subroutine fold_diagonal_by(team, n, r, ldr, diagonal, work)
      type(c_ptr), intent(in) :: team
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(inout), target :: r(ldr, n)
      real(wp), intent(in), target :: diagonal(n)      !< of D
      !> The accumulator of the new rows; on entry its last elements are those of R's rows.
      real(wp), intent(inout), target :: work(*)
      type(job_t), target :: job

      job%n = n
      job%rows = n
      job%work = c_loc(work(1))
      job%team = team
      job%diagonal = c_loc(diagonal)
      job%r = c_loc(r)
      job%ldr = ldr
      call run_team(team, fold_diagonal_share, c_loc(job))
   end subroutine fold_diagonal_by

   !> The work of one thread: its share of the columns, of the blocks, and of the columns again.
   subroutine fold_diagonal_share(number, data) bind(c, name='')
      integer(ik), value :: number
      type(c_ptr), value :: data
      type(job_t), pointer :: job
      type(layout_t) :: at
      real(wp), pointer, contiguous :: work(:), room(:), r(:, :)

      call join(number, data, job, at, work, room)
      call c_f_pointer(job%r, r, [job%ldr, job%n])
      call columns_to_rows(number, team_size(job%team), job%n, job%ldr, r, at%ldt, work(at%triangle:))
      if (meet(job%team, number, 1_ik)) return
      call fold_blocks(number, job, at, work, room, room(at%ldb*at%width + 1:))
      if (meet(job%team, number, ALL_DONE)) return
      call rows_below(number, team_size(job%team), job%n, at%ldt, work(at%triangle:), job%ldr, r)
   end subroutine fold_diagonal_share

   !> Copy the columns of r above the diagonal into rows, the accumulator's order, eight rows
   !> at a time.  Thread k takes every size-th band of columns.
   pure subroutine columns_to_rows(number, sharers, n, ldr, r, ldt, triangle)
      integer(ik), intent(in) :: number, sharers, n, ldr, ldt
      real(wp), intent(in) :: r(ldr, n)
      real(wp), intent(inout) :: triangle(ldt, n)
      integer(ik) :: from, to, first, j, k

      do from = 1 + number*BAND, n, sharers*BAND
         to = min(from + BAND - 1, n)
         do first = 1, to, OCTET
            do k = max(from, first), to
               do j = first, min(first + OCTET - 1, k)
                  triangle(k, j) = r(j, k)
               end do
            end do
         end do
      end do
   end subroutine columns_to_rows

   !> Copy rows of the triangle into the columns below r's diagonal.
   pure subroutine rows_below(number, sharers, n, ldt, triangle, ldr, r)
      integer(ik), intent(in) :: number, sharers, n, ldt, ldr
      real(wp), intent(in) :: triangle(ldt, n)
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik) :: k

      do k = 1 + number, n, sharers
         r(k + 1:n, k) = triangle(k + 1:n, k)
      end do
   end subroutine rows_below

   !> The work of one thread: every size-th block.
   subroutine fold_share(number, data) bind(c, name='')
      integer(ik), value :: number
      type(c_ptr), value :: data
      type(job_t), pointer :: job
      type(layout_t) :: at
      real(wp), pointer, contiguous :: work(:), room(:)

      call join(number, data, job, at, work, room)
      call fold_blocks(number, job, at, work, room, room(at%ldb*at%width + 1:))
   end subroutine fold_share

   subroutine fold_blocks(number, job, at, work, block, t)
      integer(ik), intent(in) :: number
      type(job_t), intent(in) :: job
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*), block(at%ldb, *), t(*)
      type(order_t) :: order
      integer(ik), pointer, contiguous :: places(:)
      integer(ik) :: start, rows, first, filled_rows, shorter
      logical :: staircase

      nullify (places)
      if (c_associated(job%places)) call c_f_pointer(job%places, places, [job%n])
      order = order_t(job%team, number, number)
      staircase = c_associated(job%diagonal)
      ! The first rows of a diagonal matrix pass through most columns: half a block of
      ! them takes its thread as long as a whole block takes the others.
      shorter = merge(BLOCK_ROWS/2, 0_ik, staircase)
      do while (order%block*BLOCK_ROWS - shorter < job%rows)
         start = max(0_ik, order%block*BLOCK_ROWS - shorter)
         rows = min((order%block + 1)*BLOCK_ROWS - shorter, job%rows) - start
         if (staircase) then
            first = start + 1
            filled_rows = at%width
            call pack_diagonal(job, at, first, rows, block)
         else
            first = 1
            filled_rows = fill_of(at, job%filled_rows, start)
            call pack_rows(rows, job%n, moved(job%a, start*job%row_stride), job%a_type, &
                           job%row_stride, job%column_stride, block, at%ldb, places)
            call pack_rows(rows, 1_ik, moved(job%f, start*job%f_stride), job%f_type, &
                           job%f_stride, 0_ik, block(1, at%columns), at%ldb)
         end if
         call pad_block(at, first, rows, block)
         call fold_block(at, first, rows, filled_rows, staircase, order, block, work(at%triangle), t)
         if (finished(order)) return
         order%block = order%block + team_size(job%team)
      end do
   end subroutine fold_blocks

   !> Rows `first` to `first + rows - 1` of the diagonal matrix.
   subroutine pack_diagonal(job, at, first, rows, block)
      type(job_t), intent(in) :: job
      type(layout_t), intent(in) :: at
      integer(ik), intent(in) :: first, rows
      real(wp), intent(inout) :: block(at%ldb, *)
      real(wp), pointer, contiguous :: diagonal(:)
      integer(ik) :: i

      call c_f_pointer(job%diagonal, diagonal, [job%n])
      block(1:rows, first:at%columns) = 0
      do i = 1, rows
         block(i, first + i - 1) = diagonal(first + i - 1)
      end do
   end subroutine pack_diagonal

   !> A thread's view of the job.
   subroutine join(number, data, job, at, work, room)
      integer(ik), intent(in) :: number
      type(c_ptr), intent(in) :: data
      type(job_t), pointer, intent(out) :: job
      type(layout_t), intent(out) :: at
      real(wp), pointer, contiguous, intent(out) :: work(:), room(:)

      call c_f_pointer(data, job)
      at = layout_of(job%n)
      call c_f_pointer(job%work, work, [at%length])
      call room_of(number, job%team, at, work, room)
   end subroutine join

   !> A thread's block, and the parts of its workspace that follow it (layout_t).
   subroutine room_of(number, team, at, work, room)
      integer(ik), intent(in) :: number
      type(c_ptr), intent(in) :: team
      type(layout_t), intent(in) :: at
      real(wp), pointer, contiguous, intent(in) :: work(:)
      real(wp), pointer, contiguous, intent(out) :: room(:)
      type(team_t), pointer :: g
      real(wp), pointer, contiguous :: rooms(:)
      integer(ik) :: start

      if (number == 0) then
         room => work(at%block:at%heights - 1)
      else
         call c_f_pointer(team, g)
         call c_f_pointer(g%room, rooms, [g%room_size*(g%size - 1)])
         start = (number - 1)*g%room_size
         room => rooms(start + 1:start + at%heights - at%block)
      end if
      ! The columns that pad the last panel: see lsq_tsqr_empty.
      room(at%columns*at%ldb + 1:at%width*at%ldb) = 0
   end subroutine room_of

end module TAGGED(leastsq_pipeline)
