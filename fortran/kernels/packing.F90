#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Copy rows of the user's array into a block that stays in cache.
!>
!> Public: pack_rows, moved, is_adjacent, FLOAT64, FLOAT32.  The data is m-sized, and only read.
module TAGGED(leastsq_packing)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_float, c_int8_t, &
      c_intptr_t, c_ptr, c_null_ptr, c_f_pointer
   use TAGGED(leastsq_panels), only: OCTET
   implicit none (type, external)
   private
   public :: pack_rows, moved, is_adjacent

   ! Types of the rows' elements, as in kernels.h.
   integer(ik), parameter, public :: FLOAT64 = 0
   integer(ik), parameter, public :: FLOAT32 = 1

contains

   !> The address `offset` bytes from p.
   function moved(p, offset) result(q)
      type(c_ptr), intent(in) :: p
      integer(ik), intent(in) :: offset
      type(c_ptr) :: q

      q = transfer(transfer(p, 0_c_intptr_t) + int(offset, c_intptr_t), c_null_ptr)
   end function moved

   !> Are the rows of each column adjacent doubles?
   function is_adjacent(a, element_type, row_stride, column_stride) result(adjacent)
      type(c_ptr), intent(in) :: a
      integer(ik), intent(in) :: element_type, row_stride, column_stride     !< in bytes
      logical :: adjacent

      adjacent = element_type == FLOAT64 .and. row_stride == 8 .and. mod(column_stride, 8_ik) == 0 &
         .and. mod(transfer(a, 0_c_intptr_t), 8_c_intptr_t) == 0
   end function is_adjacent

   !> Copy a strided matrix of either type into columns of the block.
   subroutine pack_rows(rows, columns, a, element_type, row_stride, column_stride, block, ldb, places)
      integer(ik), intent(in) :: rows, columns
      type(c_ptr), intent(in) :: a
      integer(ik), intent(in) :: element_type, row_stride, column_stride, ldb
      real(wp), intent(out) :: block(ldb, columns)
      !> Column k becomes column places(k) of the block; or k if there are none.
      integer(ik), intent(in), optional :: places(columns)
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
         call pack_bytes(rows, columns, bytes, start, width, row_stride, column_stride, block, ldb, places)
      else if (element_type == FLOAT32) then
         call c_f_pointer(lowest, singles, [span/width + 1])
         call pack_singles(rows, columns, singles, start/width, row_stride/width, &
                           column_stride/width, block, ldb, places)
      else
         call c_f_pointer(lowest, doubles, [span/width + 1])
         call pack_doubles(rows, columns, doubles, start/width, row_stride/width, &
                           column_stride/width, block, ldb, places)
      end if
   end subroutine pack_rows

   !> Eight rows at a time: for an array in C order these are eight streams of reads,
   !> and each store fills a cache line.
   pure subroutine pack_doubles(rows, columns, a, start, row_stride, column_stride, block, ldb, places)
      integer(ik), intent(in) :: rows, columns, ldb
      real(wp), intent(in), contiguous :: a(0:)
      integer(ik), intent(in) :: start, row_stride, column_stride   !< in elements
      real(wp), intent(out) :: block(ldb, columns)
      integer(ik), intent(in), optional :: places(columns)
      integer(ik) :: i, k, r, at, to

      if (column_stride == 1 .and. row_stride == columns .and. columns <= 3 .and. .not. present(places)) then
         select case (columns)
         case (2)
            call pack_pairs(rows, a(start:), block(1, 1), block(1, 2))
            return
         case (3)
            call pack_triples(rows, a(start:), block(1, 1), block(1, 2), block(1, 3))
            return
         end select
      end if
      if (row_stride == 1) then
         do k = 1, columns
            at = start + (k - 1)*column_stride
            to = place_of(k, places)
            block(1:rows, to) = a(at:at + rows - 1)
         end do
         return
      end if
      do i = 0, rows - OCTET, OCTET
         do k = 1, columns
            at = start + i*row_stride + (k - 1)*column_stride
            to = place_of(k, places)
            do r = 0, OCTET - 1
               block(1 + i + r, to) = a(at + r*row_stride)
            end do
         end do
      end do
      do k = 1, columns
         to = place_of(k, places)
         do r = OCTET*(rows/OCTET), rows - 1
            block(1 + r, to) = a(start + r*row_stride + (k - 1)*column_stride)
         end do
      end do
   end subroutine pack_doubles

   ! For rows of two or three adjacent elements the compiler finds the shuffles itself.

   pure subroutine pack_pairs(rows, a, x, y)
      integer(ik), intent(in) :: rows
      real(wp), intent(in) :: a(2, rows)
      real(wp), intent(out), dimension(rows) :: x, y
      integer(ik) :: i

      !$omp simd
      do i = 1, rows
         x(i) = a(1, i)
         y(i) = a(2, i)
      end do
   end subroutine pack_pairs

   pure subroutine pack_triples(rows, a, x, y, z)
      integer(ik), intent(in) :: rows
      real(wp), intent(in) :: a(3, rows)
      real(wp), intent(out), dimension(rows) :: x, y, z
      integer(ik) :: i

      !$omp simd
      do i = 1, rows
         x(i) = a(1, i)
         y(i) = a(2, i)
         z(i) = a(3, i)
      end do
   end subroutine pack_triples

   !> The same for single precision.
   pure subroutine pack_singles(rows, columns, a, start, row_stride, column_stride, block, ldb, places)
      integer(ik), intent(in) :: rows, columns, ldb
      real(c_float), intent(in), contiguous :: a(0:)
      integer(ik), intent(in) :: start, row_stride, column_stride   !< in elements
      real(wp), intent(out) :: block(ldb, columns)
      integer(ik), intent(in), optional :: places(columns)
      integer(ik) :: i, k, r, at, to

      if (row_stride == 1) then
         do k = 1, columns
            at = start + (k - 1)*column_stride
            to = place_of(k, places)
            block(1:rows, to) = real(a(at:at + rows - 1), wp)
         end do
         return
      end if
      do i = 0, rows - OCTET, OCTET
         do k = 1, columns
            at = start + i*row_stride + (k - 1)*column_stride
            to = place_of(k, places)
            do r = 0, OCTET - 1
               block(1 + i + r, to) = real(a(at + r*row_stride), wp)
            end do
         end do
      end do
      do k = 1, columns
         to = place_of(k, places)
         do r = OCTET*(rows/OCTET), rows - 1
            block(1 + r, to) = real(a(start + r*row_stride + (k - 1)*column_stride), wp)
         end do
      end do
   end subroutine pack_singles

   !> Elements at any byte address (fields of packed records): slow, but rare.
   pure subroutine pack_bytes(rows, columns, a, start, width, row_stride, column_stride, block, ldb, places)
      integer(ik), intent(in) :: rows, columns, ldb
      integer(c_int8_t), intent(in), contiguous :: a(0:)
      integer(ik), intent(in) :: start, width, row_stride, column_stride   !< in bytes
      real(wp), intent(out) :: block(ldb, columns)
      integer(ik), intent(in), optional :: places(columns)
      integer(ik) :: i, k, at, to

      do k = 1, columns
         to = place_of(k, places)
         do i = 1, rows
            at = start + (i - 1)*row_stride + (k - 1)*column_stride
            if (width == 4) then
               block(i, to) = real(transfer(a(at:at + 3), 0.0_c_float), wp)
            else
               block(i, to) = transfer(a(at:at + 7), 0.0_wp)
            end if
         end do
      end do
   end subroutine pack_bytes

   !> The block's column for column k.
   pure function place_of(k, places) result(place)
      integer(ik), intent(in) :: k
      integer(ik), intent(in), optional :: places(*)
      integer(ik) :: place

      place = k
      if (present(places)) place = places(k)
   end function place_of

end module TAGGED(leastsq_packing)
