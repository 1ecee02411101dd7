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
!> lsq_<name>_<ISA> for C (tsqr.h); tsqr_flush, fold_diagonal and layout_of for triangle.F90.
!> Rows are m-sized and only read; the workspace is n-sized and the caller's.
module TAGGED(leastsq_tsqr)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_float, c_int8_t, &
      c_intptr_t, c_ptr, c_null_ptr, c_associated, c_f_pointer
   use TAGGED(leastsq_panels), only: factor_panel, apply_panel, apply_panel_to_one, &
      turn_rows, move_rows, PANEL, TILE, OCTET
   implicit none (type, external)
   private
   public :: TAGGED(lsq_tsqr_work_size), TAGGED(lsq_tsqr_empty), TAGGED(lsq_tsqr_push)
   public :: TAGGED(lsq_tsqr_merge)
   public :: layout_t, layout_of, tsqr_flush, fold_diagonal

   ! Types of the rows' elements, as in tsqr.h.
   integer(ik), parameter :: FLOAT64 = 0
   integer(ik), parameter :: FLOAT32 = 1

   !> Rows of a block: long enough for the reductions at the end of each inner
   !> product not to count, short enough for four columns to stay in L1.
   integer(ik), parameter :: BLOCK_ROWS = 256
   !> Panels that visit a tile of columns together, so that it is read from a
   !> farther cache once per DEPTH panels (worth 5 % near n = 1000, nothing below).
   integer(ik), parameter :: DEPTH = 4
   !> Columns from which on it pays to see that the triangle is still empty.
   integer(ik), parameter :: FILL_FROM = 64

   ! The head of the workspace.
   integer(ik), parameter :: HEAD = 8          !< its length; keeps the rest on a cache line
   integer(ik), parameter :: WAITING = 1       !< rows packed, not yet folded

   !> Where things lie in the workspace (one-based offsets) and their shapes.
   type :: layout_t
      integer(ik) :: columns    !< of [J f]: n + 1
      integer(ik) :: width      !< columns padded to whole panels
      integer(ik) :: ldt        !< row j of the triangle is triangle(:ldt, j)
      integer(ik) :: ldb        !< leading dimension of the block
      integer(ik) :: triangle   !< ldt x width; element (j, k) is triangle(k, j)
      integer(ik) :: block      !< ldb x width
      integer(ik) :: t          !< PANEL x width: the T of each panel
      integer(ik) :: length     !< of the workspace
   end type layout_t

contains

   pure function layout_of(n) result(at)
      integer(ik), intent(in) :: n
      type(layout_t) :: at

      at%columns = n + 1
      at%width = PANEL*((at%columns + PANEL - 1)/PANEL)
      at%ldt = OCTET*((at%width + OCTET - 1)/OCTET)
      ! One line more than the rows: columns must not share their cache sets.
      at%ldb = BLOCK_ROWS + OCTET
      at%triangle = HEAD + 1
      at%block = at%triangle + at%ldt*at%width
      at%t = at%block + at%ldb*at%width
      at%length = at%t + PANEL*at%width - 1
   end function layout_of

   !> Length of the workspace of an accumulator, in doubles.
   pure function TAGGED(lsq_tsqr_work_size)(n) result(length) bind(c)
      integer(ik), intent(in), value :: n      !< columns of J, >= 1
      integer(ik) :: length
      type(layout_t) :: at

      at = layout_of(n)
      length = at%length
   end function TAGGED(lsq_tsqr_work_size)

   !> The accumulator of no rows at all.
   pure subroutine TAGGED(lsq_tsqr_empty)(n, work) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(out) :: work(*)         !< 64-byte aligned, for speed only
      type(layout_t) :: at

      at = layout_of(n)
      work(1:HEAD) = 0
      work(at%triangle:at%block - 1) = 0
      ! The columns that pad the last panel are never packed.  What is computed
      ! along with them is not used; let it be defined all the same.
      work(at%block + at%columns*at%ldb:at%t - 1) = 0
   end subroutine TAGGED(lsq_tsqr_empty)

   !> Append rows of [J f], read where they lie.
   !>
   !> The rows are packed in order into the waiting block, so the result does
   !> not depend, not even in its last bits, on how they are split into pushes.
   subroutine TAGGED(lsq_tsqr_push)(n, rows, a, a_type, row_stride, column_stride, &
                                    f, f_type, f_stride, work) bind(c)
      integer(ik), intent(in), value :: n, rows         !< n >= 1, rows >= 0
      type(c_ptr), intent(in), value :: a               !< address of element (1, 1) of J
      integer(ik), intent(in), value :: a_type          !< FLOAT64 or FLOAT32
      integer(ik), intent(in), value :: row_stride      !< in bytes, any sign
      integer(ik), intent(in), value :: column_stride   !< in bytes, any sign
      type(c_ptr), intent(in), value :: f               !< address of f(1); NULL: f is column n+1 of a
      integer(ik), intent(in), value :: f_type, f_stride
      real(wp), intent(inout) :: work(*)                !< the accumulator
      type(layout_t) :: at
      integer(ik) :: done, taken, waiting_rows, target, from_a
      logical :: f_apart

      at = layout_of(n)
      f_apart = c_associated(f)
      from_a = merge(n, n + 1, f_apart)
      done = 0
      do while (done < rows)
         waiting_rows = int(work(WAITING), ik)
         taken = min(BLOCK_ROWS - waiting_rows, rows - done)
         target = at%block + waiting_rows
         call pack_rows(taken, from_a, moved(a, done*row_stride), a_type, row_stride, &
                        column_stride, work(target), at%ldb)
         if (f_apart) call pack_rows(taken, 1_ik, moved(f, done*f_stride), f_type, f_stride, &
                                     0_ik, work(target + n*at%ldb), at%ldb)
         done = done + taken
         work(WAITING) = real(waiting_rows + taken, wp)
         if (waiting_rows + taken == BLOCK_ROWS) call tsqr_flush(at, work)
      end do
   end subroutine TAGGED(lsq_tsqr_push)

   !> Add to the accumulator `work` all rows of the accumulator `other`.
   subroutine TAGGED(lsq_tsqr_merge)(n, work, other) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(inout) :: work(*)
      real(wp), intent(inout) :: other(*)      !< keeps its rows; its waiting block is folded
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
         call fold_waiting(at, work, first, rows, .true.)
      end do
   end subroutine TAGGED(lsq_tsqr_merge)

   !> Append the n rows of a diagonal matrix.
   pure subroutine fold_diagonal(at, work, diagonal)
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*)
      real(wp), intent(in) :: diagonal(at%columns - 1)
      integer(ik) :: first, rows, i

      do first = 1, at%columns - 1, BLOCK_ROWS
         rows = min(BLOCK_ROWS, at%columns - first)
         call clear_block(at, work, first, rows)
         do i = 1, rows
            work(at%block + i - 1 + (first + i - 2)*at%ldb) = diagonal(first + i - 1)
         end do
         call fold_waiting(at, work, first, rows, .true.)
      end do
   end subroutine fold_diagonal

   !> Zeros in the first rows of the block, from column `first` on.
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
   pure subroutine tsqr_flush(at, work)
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*)
      integer(ik) :: rows

      rows = int(work(WAITING), ik)
      if (rows > 0) call fold_waiting(at, work, 1_ik, rows, .false.)
      work(WAITING) = 0
   end subroutine tsqr_flush

   !> Pad the block's rows to whole octets with zeros and fold it.
   pure subroutine fold_waiting(at, work, first, rows, staircase)
      type(layout_t), intent(in) :: at
      real(wp), intent(inout) :: work(*)
      integer(ik), intent(in) :: first, rows
      logical, intent(in) :: staircase
      integer(ik) :: octets, k, column

      octets = (rows + OCTET - 1)/OCTET
      do k = first, at%columns
         column = at%block + (k - 1)*at%ldb
         work(column + rows:column + octets*OCTET - 1) = 0
      end do
      call fold(at%columns, at%width, first, rows, staircase, work(at%block), at%ldb, &
                work(at%triangle), at%ldt, work(at%t))
   end subroutine fold_waiting

   !> Clear the block's columns from `first` on into the triangle.
   !>
   !> DEPTH panels form a group: each is factored and applied to the rest of its
   !> group, then all of them visit the columns beyond, tile by tile.  Where the
   !> triangle is still empty, rows of the block become its rows, panel by panel.
   pure subroutine fold(columns, width, first, rows, staircase, block, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: columns       !< columns with data
      integer(ik), intent(in) :: width         !< padded to whole panels by zero columns
      integer(ik), intent(in) :: first         !< columns before it are zero; 1 + a multiple of PANEL
      integer(ik), intent(in) :: rows          !< of the block; zeros up to the next octet
      logical, intent(in) :: staircase         !< is column first+i zero below row i+1?
      integer(ik), intent(in) :: ldb, ldt
      real(wp), intent(inout) :: block(ldb, width)
      real(wp), intent(inout) :: triangle(ldt, width)
      real(wp), intent(out) :: t(PANEL, width)
      integer(ik) :: group, group_end, j, k, left, octets, filled_rows, deep(DEPTH), which

      filled_rows = width
      if (columns >= FILL_FROM .and. .not. staircase) call find_filled(columns, triangle, ldt, filled_rows)
      left = rows
      octets = (rows + OCTET - 1)/OCTET
      group = first
      do while (group <= width .and. left > 0)
         if (group > filled_rows) then
            call fill(columns, width, group, left, block, ldb, triangle, ldt, t)
            octets = (left + OCTET - 1)/OCTET
            filled_rows = group + PANEL - 1
            group = group + PANEL
            cycle
         end if
         group_end = min(group + PANEL*DEPTH - 1, filled_rows)
         do j = group, group_end, PANEL
            which = 1 + (j - group)/PANEL
            deep(which) = octets
            if (staircase) deep(which) = min(octets, 1 + (j + PANEL - 1 - first)/OCTET)
            call factor_panel(deep(which), min(PANEL, columns - j + 1), block(1, j), ldb, &
                              triangle(j, j), ldt, t(1, j))
            if (idle(t(1, j))) deep(which) = 0
            call visit(j + PANEL, min(group_end, columns), j, 1_ik, deep(which), &
                       width, block, ldb, triangle, ldt, t)
         end do
         do k = group_end + 1, columns, TILE
            call visit(k, min(k + TILE - 1, columns), group, which, deep, &
                       width, block, ldb, triangle, ldt, t)
         end do
         group = group_end + 1
      end do
   end subroutine fold

   !> Up to the last panel of the triangle's rows that is not zero.
   pure subroutine find_filled(columns, triangle, ldt, filled_rows)
      integer(ik), intent(in) :: columns, ldt
      real(wp), intent(in) :: triangle(ldt, columns)
      integer(ik), intent(out) :: filled_rows      !< a multiple of PANEL
      integer(ik) :: j, k

      do j = columns, 1, -1
         do k = j, columns
            if (.not. abs(triangle(k, j)) <= 0) then
               filled_rows = PANEL*((j + PANEL - 1)/PANEL)
               return
            end if
         end do
      end do
      filled_rows = 0
   end subroutine find_filled

   !> Does a panel with this T change nothing?  (One of zeros: a sparse Jacobian's,
   !> for one.)
   pure function idle(t)
      real(wp), intent(in) :: t(PANEL, PANEL)
      logical :: idle
      integer(ik) :: j

      idle = .true.
      do j = 1, PANEL
         idle = idle .and. abs(t(j, j)) <= 0
      end do
   end function idle

   !> One panel where the triangle's rows are zero: the block's last rows, made a
   !> trapezoid, take their place, and the panel clears what is left.
   pure subroutine fill(columns, width, panel_start, left, block, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: columns, width, panel_start, ldb, ldt
      integer(ik), intent(inout) :: left           !< rows of the block; then those that stay
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
         call visit(k, last, panel_start, 1_ik, octets, width, block, ldb, triangle, ldt, t)
      end do
   end subroutine fill

   !> Some successive panels visit the columns from..to, tile by tile.
   pure subroutine visit(from, to, first_panel, panels, deep, width, block, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: from, to
      integer(ik), intent(in) :: first_panel      !< the first panel's first column
      integer(ik), intent(in) :: panels           !< how many
      integer(ik), intent(in) :: deep(panels)     !< octets of rows of each
      integer(ik), intent(in) :: width, ldb, ldt
      real(wp), intent(inout) :: block(ldb, width), triangle(ldt, width)
      real(wp), intent(in) :: t(PANEL, width)
      integer(ik) :: c, i, p

      c = from
      do while (c <= to)
         if (to - c + 1 >= TILE) then
            do i = 1, panels
               p = first_panel + (i - 1)*PANEL
               call apply_panel(deep(i), block(1, p), block(1, c), ldb, triangle(c, p), ldt, t(1, p))
            end do
            c = c + TILE
         else
            do i = 1, panels
               p = first_panel + (i - 1)*PANEL
               call apply_panel_to_one(deep(i), block(1, p), block(1, c), ldb, triangle(c, p), &
                                       ldt, t(1, p))
            end do
            c = c + 1
         end if
      end do
   end subroutine visit

   !> The address `offset` bytes from p.
   function moved(p, offset) result(q)
      type(c_ptr), intent(in) :: p
      integer(ik), intent(in) :: offset
      type(c_ptr) :: q

      q = transfer(transfer(p, 0_c_intptr_t) + int(offset, c_intptr_t), c_null_ptr)
   end function moved

   !> Copy a strided matrix of either type into columns of the block.
   subroutine pack_rows(rows, columns, a, element_type, row_stride, column_stride, block, ldb)
      integer(ik), intent(in) :: rows, columns
      type(c_ptr), intent(in) :: a
      integer(ik), intent(in) :: element_type, row_stride, column_stride, ldb
      real(wp), intent(out) :: block(ldb, columns)
      real(wp), pointer, contiguous :: doubles(:)
      real(c_float), pointer, contiguous :: singles(:)
      integer(c_int8_t), pointer, contiguous :: bytes(:)
      type(c_ptr) :: lowest
      integer(ik) :: start, span, width
      logical :: whole_strides

      ! Negative strides: view the array from its lowest address.
      start = -(min(0_ik, (rows - 1)*row_stride) + min(0_ik, (columns - 1)*column_stride))
      lowest = moved(a, -start)
      span = (rows - 1)*abs(row_stride) + (columns - 1)*abs(column_stride)
      width = merge(4_ik, 8_ik, element_type == FLOAT32)
      whole_strides = mod(row_stride, width) == 0 .and. mod(column_stride, width) == 0 &
         .and. mod(transfer(a, 0_c_intptr_t), int(width, c_intptr_t)) == 0
      if (.not. whole_strides) then
         call c_f_pointer(lowest, bytes, [span + width])
         call pack_bytes(rows, columns, bytes, start, width, row_stride, column_stride, block, ldb)
      else if (element_type == FLOAT32) then
         call c_f_pointer(lowest, singles, [span/width + 1])
         call pack_singles(rows, columns, singles, start/width, row_stride/width, &
                           column_stride/width, block, ldb)
      else
         call c_f_pointer(lowest, doubles, [span/width + 1])
         call pack_doubles(rows, columns, doubles, start/width, row_stride/width, &
                           column_stride/width, block, ldb)
      end if
   end subroutine pack_rows

   !> Eight rows at a time: if a is in C order these are eight streams of reads,
   !> and each store fills a cache line.
   pure subroutine pack_doubles(rows, columns, a, start, row_stride, column_stride, block, ldb)
      integer(ik), intent(in) :: rows, columns, ldb
      real(wp), intent(in), contiguous :: a(0:)
      integer(ik), intent(in) :: start, row_stride, column_stride   !< in elements
      real(wp), intent(out) :: block(ldb, columns)
      integer(ik) :: i, k, r, at

      if (row_stride == 1) then
         do k = 1, columns
            at = start + (k - 1)*column_stride
            block(1:rows, k) = a(at:at + rows - 1)
         end do
         return
      end if
      do i = 0, rows - OCTET, OCTET
         do k = 1, columns
            at = start + i*row_stride + (k - 1)*column_stride
            do r = 0, OCTET - 1
               block(1 + i + r, k) = a(at + r*row_stride)
            end do
         end do
      end do
      do k = 1, columns
         do r = OCTET*(rows/OCTET), rows - 1
            block(1 + r, k) = a(start + r*row_stride + (k - 1)*column_stride)
         end do
      end do
   end subroutine pack_doubles

   !> The same for single precision.
   pure subroutine pack_singles(rows, columns, a, start, row_stride, column_stride, block, ldb)
      integer(ik), intent(in) :: rows, columns, ldb
      real(c_float), intent(in), contiguous :: a(0:)
      integer(ik), intent(in) :: start, row_stride, column_stride   !< in elements
      real(wp), intent(out) :: block(ldb, columns)
      integer(ik) :: i, k, r, at

      if (row_stride == 1) then
         do k = 1, columns
            at = start + (k - 1)*column_stride
            block(1:rows, k) = real(a(at:at + rows - 1), wp)
         end do
         return
      end if
      do i = 0, rows - OCTET, OCTET
         do k = 1, columns
            at = start + i*row_stride + (k - 1)*column_stride
            do r = 0, OCTET - 1
               block(1 + i + r, k) = real(a(at + r*row_stride), wp)
            end do
         end do
      end do
      do k = 1, columns
         do r = OCTET*(rows/OCTET), rows - 1
            block(1 + r, k) = real(a(start + r*row_stride + (k - 1)*column_stride), wp)
         end do
      end do
   end subroutine pack_singles

   !> Elements at any byte address (fields of packed records): slow and rare.
   pure subroutine pack_bytes(rows, columns, a, start, width, row_stride, column_stride, block, ldb)
      integer(ik), intent(in) :: rows, columns, ldb
      integer(c_int8_t), intent(in), contiguous :: a(0:)
      integer(ik), intent(in) :: start, width, row_stride, column_stride   !< in bytes
      real(wp), intent(out) :: block(ldb, columns)
      integer(ik) :: i, k, at

      do k = 1, columns
         do i = 1, rows
            at = start + (i - 1)*row_stride + (k - 1)*column_stride
            if (width == 4) then
               block(i, k) = real(transfer(a(at:at + 3), 0.0_c_float), wp)
            else
               block(i, k) = transfer(a(at:at + 7), 0.0_wp)
            end if
         end do
      end do
   end subroutine pack_bytes

end module TAGGED(leastsq_tsqr)
