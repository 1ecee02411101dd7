#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> The row accumulator of [J f]: a monoid of (n+1) x (n+1) triangles.
!>
!> Rows are packed into a block that stays in cache and folded, block by block,
!> into the triangle of a QR factorisation (sequential and tree TSQR: Demmel,
!> Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, 2012, §3).  `empty`,
!> `push` rows, `merge` two accumulators; no Q is ever stored.
!>
!> Public: tsqr_work_size, tsqr_empty, tsqr_push, tsqr_merge, each also as
!> lsq_<name>_<ISA> for C (kernels.h); for the other kernels tsqr_flush, layout_of, and
!> fold_block with its types.
!> Rows are m-sized and only read; the workspace is n-sized and belongs to the caller.
module TAGGED(leastsq_tsqr)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_ptr, c_associated, c_f_pointer
   use TAGGED(leastsq_team), only: order_t, wait_turn, pass_on
   use TAGGED(leastsq_packing), only: pack_rows, moved, is_adjacent
   use TAGGED(leastsq_panels), only: factor_panel, apply_panel, apply_panel_to_one, &
      turn_rows, move_rows, PANEL, TILE, OCTET
   use TAGGED(leastsq_narrow), only: narrow_t, begin_narrow, add_narrow, end_narrow, NARROW
   implicit none (type, external)
   private
   public :: TAGGED(lsq_tsqr_work_size), TAGGED(lsq_tsqr_empty), TAGGED(lsq_tsqr_push)
   public :: TAGGED(lsq_tsqr_merge)
   public :: layout_t, layout_of, tsqr_flush
   public :: fold_block, find_filled, fill_of, pad_block, idle, visit

   !> Rows of a block: enough for what is done once per block and column to be negligible, and few enough for four
   !> columns to stay in L1 and a block in L2.  The fewer columns, the more rows (measured; 3 to 12 % faster than 256
   !> everywhere).
   integer(ik), parameter, public :: BLOCK_ROWS = 256
   integer(ik), parameter :: ROWS_TO_256 = 384     !< with up to 256 columns
   integer(ik), parameter :: ROWS_TO_64 = 512
   integer(ik), parameter :: ROWS_TO_12 = 768
   integer(ik), parameter :: NARROW_ROWS = 1024    !< for narrow.F90
   !> Panels that are applied to a tile of columns together, so that the tile is read from a
   !> slower cache once per DEPTH panels (5 % faster near n = 1000, no gain below).
   integer(ik), parameter, public :: DEPTH = 4
   !> With fewer rows the reflectors of few columns are as fast as narrow.F90.
   integer(ik), parameter :: LEAST_ROWS = 64
   !> With at least this many columns it is faster to treat an empty triangle separately.
   integer(ik), parameter :: FILL_FROM = 64

   ! The head of the workspace.
   integer(ik), parameter :: HEAD = 8          !< its length; keeps the rest on a cache line
   integer(ik), parameter :: WAITING = 1       !< rows packed, not yet folded

   !> Shapes and one-based offsets of the parts of the workspace.
   type :: layout_t
      integer(ik) :: columns    !< of [J f]: n + 1
      integer(ik) :: width      !< columns padded to whole panels
      integer(ik) :: rows       !< of a block
      integer(ik) :: ldt        !< row j of the triangle is triangle(:ldt, j)
      integer(ik) :: ldb        !< leading dimension of the block
      integer(ik) :: triangle   !< ldt x width; element (j, k) is triangle(k, j)
      integer(ik) :: block      !< ldb x width
      integer(ik) :: t          !< PANEL x width: the T of each panel
      integer(ik) :: list       !< width: some of the columns
      integer(ik) :: heights    !< width: of the columns (refold.F90)
      integer(ik) :: length     !< of the workspace
   end type layout_t

   !> Rows of one column, wherever they are.
   type :: column_t
      real(wp), pointer, contiguous :: rows(:)
   end type column_t

contains

   pure function layout_of(n) result(at)
      integer(ik), intent(in) :: n
      type(layout_t) :: at

      at%columns = n + 1
      at%width = PANEL*((at%columns + PANEL - 1)/PANEL)
      at%ldt = OCTET*((at%width + OCTET - 1)/OCTET)
      ! One cache line more than the rows, so that columns do not share cache sets.
      at%rows = block_rows_of(at%columns)
      at%ldb = at%rows + OCTET
      at%triangle = HEAD + 1
      at%block = at%triangle + at%ldt*at%width
      at%t = at%block + at%ldb*at%width
      at%list = at%t + PANEL*at%width
      at%heights = at%list + at%width
      at%length = at%heights + at%width - 1
   end function layout_of

   pure function block_rows_of(columns) result(rows)
      integer(ik), intent(in) :: columns
      integer(ik) :: rows

      select case (columns)
      case (:NARROW)
         rows = NARROW_ROWS
      case (NARROW + 1:12)
         rows = ROWS_TO_12
      case (13:64)
         rows = ROWS_TO_64
      case (65:256)
         rows = ROWS_TO_256
      case default
         rows = BLOCK_ROWS
      end select
   end function block_rows_of

   !> Length of the workspace of an accumulator, in doubles.
   pure function TAGGED(lsq_tsqr_work_size)(n) result(length) bind(c)
      integer(ik), intent(in), value :: n      !< columns of J, >= 1
      integer(ik) :: length
      type(layout_t) :: at

      at = layout_of(n)
      length = at%length
   end function TAGGED(lsq_tsqr_work_size)

   !> The accumulator of no rows.
   pure subroutine TAGGED(lsq_tsqr_empty)(n, work) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(inout) :: work(*)       !< 64-byte aligned, for speed only
      type(layout_t) :: at
      integer(ik) :: j, row

      at = layout_of(n)
      work(1:HEAD) = 0
      ! Elements outside the triangle are never touched: a quarter of a large one takes no memory.
      do j = 1, at%width
         row = at%triangle + (j - 1)*at%ldt
         work(row + j - 1:row + at%ldt - 1) = 0
      end do
      ! The columns that pad the last panel are never packed.  Results for them are
      ! not used, but must be defined.
      work(at%block + at%columns*at%ldb:at%t - 1) = 0
   end subroutine TAGGED(lsq_tsqr_empty)

   !> Append rows of [J f], which are read from the user's arrays.
   !>
   !> The rows are packed in order into the waiting block, so no bit of the result depends
   !> on how they are split into pushes.
   subroutine TAGGED(lsq_tsqr_push)(n, rows, a, a_type, row_stride, column_stride, &
                                    f, f_type, f_stride, work, places) bind(c)
      integer(ik), intent(in), value :: n, rows         !< n >= 1, rows >= 0
      type(c_ptr), intent(in), value :: a               !< address of element (1, 1) of J
      integer(ik), intent(in), value :: a_type          !< FLOAT64 or FLOAT32
      integer(ik), intent(in), value :: row_stride      !< in bytes, any sign
      integer(ik), intent(in), value :: column_stride   !< in bytes, any sign
      type(c_ptr), intent(in), value :: f               !< address of f(1); NULL: f is column n+1 of a
      integer(ik), intent(in), value :: f_type, f_stride
      real(wp), intent(inout) :: work(*)                !< the accumulator
      !> Column k of J becomes column places(k) of the accumulator; NULL: k.  Not NULL only if f is not.
      integer(ik), intent(in), optional :: places(*)
      type(layout_t) :: at
      integer(ik) :: done, taken, waiting_rows, target, from_a
      logical :: f_apart, tried, folded

      at = layout_of(n)
      f_apart = c_associated(f)
      from_a = merge(n, n + 1, f_apart)
      done = 0
      do while (done < rows)
         waiting_rows = int(work(WAITING), ik)
         taken = min(at%rows - waiting_rows, rows - done)
         tried = at%columns <= NARROW .and. f_apart .and. taken == at%rows
         if (tried) then
            call fold_in_place(at, moved(a, done*row_stride), a_type, row_stride, column_stride, &
                               moved(f, done*f_stride), f_type, f_stride, work, folded)
            if (folded) then
               done = done + taken
               cycle
            end if
         end if
         target = at%block + waiting_rows
         call pack_rows(taken, from_a, moved(a, done*row_stride), a_type, row_stride, &
                        column_stride, work(target), at%ldb, places)
         if (f_apart) call pack_rows(taken, 1_ik, moved(f, done*f_stride), f_type, f_stride, &
                                     0_ik, work(target + n*at%ldb), at%ldb)
         done = done + taken
         work(WAITING) = real(waiting_rows + taken, wp)
         if (waiting_rows + taken == at%rows) then
            call fold_waiting(at, work, 1_ik, at%rows, .false., tried)
            work(WAITING) = 0
         end if
      end do
   end subroutine TAGGED(lsq_tsqr_push)

   !> Fold a whole block of few columns.  Adjacent doubles are read where they are; others are packed.
   subroutine fold_in_place(at, a, a_type, row_stride, column_stride, f, f_type, f_stride, work, folded)
      type(layout_t), intent(in) :: at
      type(c_ptr), intent(in) :: a, f
      integer(ik), intent(in) :: a_type, row_stride, column_stride, f_type, f_stride
      real(wp), intent(inout), target :: work(*)
      logical, intent(out) :: folded           !< if not, the rows are not in the triangle, nor in the block
      type(column_t) :: columns(NARROW)
      type(narrow_t) :: sums
      integer(ik) :: from, k, n

      n = at%columns - 1
      call begin_narrow(at%columns, work(at%triangle), at%ldt, sums, folded)
      if (.not. folded) return
      ! Strip by strip, each packed into the same rows, which stay in L1.
      do k = 1, NARROW
         columns(k)%rows => work(at%block + (k - 1)*at%ldb:at%block + (k - 1)*at%ldb + BLOCK_ROWS - 1)
      end do
      do from = 0, at%rows - BLOCK_ROWS, BLOCK_ROWS
         if (is_adjacent(a, a_type, row_stride, column_stride)) then
            do k = 1, n
               call c_f_pointer(moved(a, from*row_stride + (k - 1)*column_stride), columns(k)%rows, [BLOCK_ROWS])
            end do
         else
            call pack_rows(BLOCK_ROWS, n, moved(a, from*row_stride), a_type, row_stride, column_stride, &
                           work(at%block), at%ldb)
         end if
         if (is_adjacent(f, f_type, f_stride, 0_ik)) then
            call c_f_pointer(moved(f, from*f_stride), columns(n + 1)%rows, [BLOCK_ROWS])
         else
            call pack_rows(BLOCK_ROWS, 1_ik, moved(f, from*f_stride), f_type, f_stride, 0_ik, &
                           work(at%block + n*at%ldb), at%ldb)
         end if
         call add_narrow(at%columns, BLOCK_ROWS, columns(1)%rows, columns(2)%rows, columns(3)%rows, columns(4)%rows, sums)
      end do
      call end_narrow(at%columns, sums, work(at%triangle), at%ldt, folded)
   end subroutine fold_in_place

   !> Add to the accumulator `work` all rows of the accumulator `other`.
   subroutine TAGGED(lsq_tsqr_merge)(n, work, other) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(inout) :: work(*)
      real(wp), intent(inout) :: other(*)      !< keeps its rows, but its waiting block is folded
      type(layout_t) :: at
      integer(ik) :: first, rows, i, k, source, place

      at = layout_of(n)
      call tsqr_flush(at, work)
      call tsqr_flush(at, other)
      do first = 1, at%columns, BLOCK_ROWS
         rows = min(BLOCK_ROWS, at%columns - first + 1)
         call clear_block(at, work, first, rows)
         do i = 1, rows
            source = at%triangle + (first + i - 2)*at%ldt - 1       ! row first+i-1
            place = at%block + i - 1 - at%ldb
            do k = first + i - 1, at%columns
               work(place + k*at%ldb) = other(source + k)
            end do
         end do
         call fold_waiting(at, work, first, rows, .true., .false.)
      end do
   end subroutine TAGGED(lsq_tsqr_merge)

   !> Set the first rows of the block to zero, from column `first` on.
   pure subroutine clear_block(at, work, first, rows)
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*)
      integer(ik), intent(in) :: first, rows
      integer(ik) :: k, column

      do k = first, at%columns
         column = at%block + (k - 1)*at%ldb
         work(column:column + rows - 1) = 0
      end do
   end subroutine clear_block

   !> Fold the waiting rows, if any, into the triangle.
   subroutine tsqr_flush(at, work)
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*)
      integer(ik) :: rows

      rows = int(work(WAITING), ik)
      if (rows > 0) call fold_waiting(at, work, 1_ik, rows, .false., .false.)
      work(WAITING) = 0
   end subroutine tsqr_flush

   !> Fold the first rows of the block in the workspace.
   subroutine fold_waiting(at, work, first, rows, staircase, tried)
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*)
      integer(ik), intent(in) :: first, rows
      logical, intent(in) :: staircase
      logical, intent(in) :: tried             !< have narrow.F90's conditions failed for these rows?
      integer(ik) :: filled_rows
      type(order_t) :: alone
      logical :: folded

      call pad_block(at, first, rows, work(at%block))
      if (at%columns <= NARROW .and. .not. (staircase .or. tried) .and. rows >= LEAST_ROWS) then
         call fold_packed(at, OCTET*((rows + OCTET - 1)/OCTET), work, folded)
         if (folded) return
      end if
      filled_rows = at%width
      if (.not. staircase) call find_filled(at, work(at%triangle), filled_rows)
      call fold_block(at, first, rows, filled_rows, staircase, alone, work(at%block), &
                      work(at%triangle), work(at%t))
   end subroutine fold_waiting

   !> Fold the first rows of a block of few columns, by the strips of fold_in_place.
   pure subroutine fold_packed(at, rows, work, folded)
      type(layout_t), intent(in) :: at
      integer(ik), intent(in) :: rows          !< whole octets
      real(wp), intent(inout) :: work(*)
      logical, intent(out) :: folded
      type(narrow_t) :: sums
      integer(ik) :: from, strip

      call begin_narrow(at%columns, work(at%triangle), at%ldt, sums, folded)
      if (.not. folded) return
      do from = 0, rows - 1, BLOCK_ROWS
         strip = at%block + from
         call add_narrow(at%columns, min(BLOCK_ROWS, rows - from), work(strip), work(strip + at%ldb), &
                         work(strip + 2*at%ldb), work(strip + 3*at%ldb), sums)
      end do
      call end_narrow(at%columns, sums, work(at%triangle), at%ldt, folded)
   end subroutine fold_packed

   !> Pad the block's rows with zeros to whole octets.
   pure subroutine pad_block(at, first, rows, block)
      type(layout_t), intent(in) :: at
      integer(ik), intent(in) :: first, rows
      real(wp), intent(inout) :: block(at%ldb, at%width)

      block(rows + 1:OCTET*((rows + OCTET - 1)/OCTET), first:at%columns) = 0
   end subroutine pad_block

   !> The number of rows up to the last panel of the triangle's rows that is not zero.
   pure subroutine find_filled(at, triangle, filled_rows)
      type(layout_t), intent(in) :: at
      real(wp), intent(in) :: triangle(at%ldt, at%width)
      integer(ik), intent(out) :: filled_rows      !< a multiple of PANEL
      integer(ik) :: j, k

      filled_rows = at%width
      if (at%columns < FILL_FROM) return
      do j = at%columns, 1, -1
         do k = j, at%columns
            if (.not. abs(triangle(k, j)) <= 0) then
               filled_rows = PANEL*((j + PANEL - 1)/PANEL)
               return
            end if
         end do
      end do
      filled_rows = 0
   end subroutine find_filled

   !> The same after `rows` more rows, without reading the triangle.
   pure function fill_of(at, filled_rows, rows) result(filled)
      type(layout_t), intent(in) :: at
      integer(ik), intent(in) :: filled_rows, rows
      integer(ik) :: filled

      filled = min(at%width, filled_rows + PANEL*((rows + PANEL - 1)/PANEL))
   end function fill_of

   !> Clear the block's columns from `first` on into the triangle.
   !>
   !> DEPTH panels form a group: each is factored and applied to the rest of its group, then
   !> all of them are applied to the later columns, tile by tile.  Where the triangle is still
   !> empty, rows of the block become its rows, panel by panel.
   subroutine fold_block(at, first, rows, filled_rows, staircase, order, block, triangle, t)
      type(layout_t), intent(in) :: at
      integer(ik), intent(in) :: first         !< columns before it are zero; 1 + a multiple of PANEL
      integer(ik), intent(in) :: rows          !< of the block; zeros up to the next octet
      integer(ik), intent(in) :: filled_rows   !< of the triangle; those after them are zero
      logical, intent(in) :: staircase         !< is column first+i zero below row i+1?
      type(order_t), intent(in) :: order
      real(wp), intent(inout) :: block(at%ldb, at%width)
      real(wp), intent(inout) :: triangle(at%ldt, at%width)
      real(wp), intent(out) :: t(PANEL, at%width)
      integer(ik) :: group, group_end, j, k, left, octets, deep(DEPTH), which, columns, width, ldb, ldt

      columns = at%columns
      width = at%width
      ldb = at%ldb
      ldt = at%ldt
      left = rows
      octets = (rows + OCTET - 1)/OCTET
      group = first
      do while (group <= width .and. left > 0)
         if (group > filled_rows) then
            call fill(columns, width, group, left, block, ldb, triangle, ldt, t)
            octets = (left + OCTET - 1)/OCTET
            group = group + PANEL
            if (pass_on(order, group - 1)) return
            cycle
         end if
         group_end = min(group + PANEL*DEPTH - 1, filled_rows)
         if (wait_turn(order, group_end)) return
         do j = group, group_end, PANEL
            which = 1 + (j - group)/PANEL
            deep(which) = octets
            if (staircase) deep(which) = min(octets, 1 + (j + PANEL - 1 - first)/OCTET)
            call factor_panel(deep(which), min(PANEL, columns - j + 1), block(1, j), ldb, &
                              triangle(j, j), ldt, t(1, j))
            if (idle(t(1, j))) deep(which) = 0
            call visit(j + PANEL, min(group_end, columns), 1_ik, j, 1_ik, deep(which), &
                       block, ldb, triangle, ldt, t)
         end do
         do k = group_end + 1, columns, TILE
            call visit(k, min(k + TILE - 1, columns), 1_ik, group, which, deep, &
                       block, ldb, triangle, ldt, t)
         end do
         group = group_end + 1
         if (pass_on(order, group_end)) return
      end do
   end subroutine fold_block

   !> Does a panel with this T change nothing?  (Its columns are zero, as in a sparse
   !> Jacobian.)
   pure function idle(t)
      real(wp), intent(in) :: t(PANEL, PANEL)
      logical :: idle
      integer(ik) :: j

      idle = .true.
      do j = 1, PANEL
         idle = idle .and. abs(t(j, j)) <= 0
      end do
   end function idle

   !> One panel where the triangle's rows are zero: the block's last rows are turned into a
   !> trapezoid and moved there, and the panel clears the remaining rows.
   pure subroutine fill(columns, width, panel_start, left, block, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: columns, width, panel_start, ldb, ldt
      integer(ik), intent(inout) :: left           !< rows of the block; on return those that remain
      real(wp), intent(inout) :: block(ldb, width), triangle(ldt, width), t(PANEL, width)
      real(wp) :: turn(PANEL, PANEL)
      integer(ik) :: live, moved_rows, k, last, octets(1)

      live = min(PANEL, columns - panel_start + 1)
      moved_rows = min(live, left)
      left = left - moved_rows
      octets = (left + OCTET - 1)/OCTET
      call turn_rows(moved_rows, live, block(left + 1, panel_start), ldb, turn)
      call move_rows(moved_rows, live, turn, block(left + 1, panel_start), ldb, &
                     triangle(panel_start, panel_start), ldt)
      call factor_panel(octets(1), live, block(1, panel_start), ldb, &
                        triangle(panel_start, panel_start), ldt, t(1, panel_start))
      if (idle(t(1, panel_start))) octets = 0
      do k = panel_start + PANEL, columns, TILE
         last = min(k + TILE - 1, columns)
         call move_rows(moved_rows, last - k + 1, turn, block(left + 1, k), ldb, &
                        triangle(k, panel_start), ldt)
         call visit(k, last, 1_ik, panel_start, 1_ik, octets, block, ldb, triangle, ldt, t)
      end do
   end subroutine fill

   !> Apply some successive panels to the columns from..to, tile by tile.
   pure subroutine visit(from, to, first_row, first_panel, panels, deep, block, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: from, to
      integer(ik), intent(in) :: first_row        !< of those that are in `triangle`; t likewise
      integer(ik), intent(in) :: first_panel      !< the first panel's first column
      integer(ik), intent(in) :: panels           !< how many
      integer(ik), intent(in) :: deep(panels)     !< octets of rows of each
      integer(ik), intent(in) :: ldb, ldt
      real(wp), intent(inout) :: block(ldb, *), triangle(ldt, *)
      real(wp), intent(in) :: t(PANEL, *)
      integer(ik) :: c, i, p, row

      c = from
      do while (c <= to)
         if (to - c + 1 >= TILE) then
            do i = 1, panels
               p = first_panel + (i - 1)*PANEL
               row = p - first_row + 1
               call apply_panel(deep(i), block(1, p), block(1, c), ldb, triangle(c, row), ldt, t(1, row))
            end do
            c = c + TILE
         else
            do i = 1, panels
               p = first_panel + (i - 1)*PANEL
               row = p - first_row + 1
               call apply_panel_to_one(deep(i), block(1, p), block(1, c), ldb, triangle(c, row), &
                                       ldt, t(1, row))
            end do
            c = c + 1
         end if
      end do
   end subroutine visit

end module TAGGED(leastsq_tsqr)
