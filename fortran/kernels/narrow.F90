#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Fold rows of few columns into a triangle that has rows already: one pass, no reflectors, no copy of columns.
!>
!> With R = D U, U with a unit diagonal, [R; A] = [D; Y] U for Y = A U⁻¹.  The Cholesky factor C of D² + Y'Y
!> gives the new triangle, C U.  (Cholesky QR with a preconditioner: Yamamoto, Nakatsukasa, Yanagisawa and Fukaya,
!> ETNA 44, 2015; the triangle so far is the preconditioner.)  Y has rounding errors of a few eps |Y| |U|, which is no
!> more than with reflectors if no column of Y is much longer than its element of D.  C keeps its digits if nothing
!> cancels in D² + Y'Y.  Both conditions are checked for each block; if one does not hold, the caller uses reflectors.
!>
!> Public: narrow_t; begin_narrow, add_narrow, end_narrow for each block; NARROW.  Data: one block of rows, the triangle.
module TAGGED(leastsq_narrow)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   use TAGGED(leastsq_reflectors), only: SMALLEST_SUM, LARGEST_SUM
   implicit none (type, external)
   private
   public :: narrow_t, begin_narrow, add_narrow, end_narrow

   !> Columns of [J f] whose Y stays in registers.
   integer(ik), parameter, public :: NARROW = 4
   !> A column of Y may be this much longer than D's element; squared.
   real(wp), parameter :: LONGEST = 16
   !> At least this part of each diagonal element of D² + Y'Y must be left after elimination.
   real(wp), parameter :: LEAST_LEFT = 0.125_wp

   !> U and Y'Y, both by (k, j): row j, column k.
   type :: narrow_t
      real(wp) :: u(NARROW, NARROW), g(NARROW, NARROW)
   end type narrow_t

contains

   !> Begin a block.
   pure subroutine begin_narrow(columns, triangle, ldt, sums, possible)
      integer(ik), intent(in) :: columns       !< of [J f], 2 to NARROW
      integer(ik), intent(in) :: ldt
      real(wp), intent(in) :: triangle(ldt, columns)       !< (k, j): row j, column k
      type(narrow_t), intent(out) :: sums
      logical, intent(out) :: possible
      real(wp) :: inverse
      integer(ik) :: j, k

      possible = .true.
      do j = 1, columns
         possible = possible .and. abs(triangle(j, j)) > 0
         inverse = 1/triangle(j, j)
         do k = j + 1, columns
            sums%u(k, j) = triangle(k, j)*inverse
         end do
      end do
      sums%g = 0
   end subroutine begin_narrow

   !> Add some rows of the block.
   pure subroutine add_narrow(columns, rows, a1, a2, a3, a4, sums)
      integer(ik), intent(in) :: columns
      integer(ik), intent(in) :: rows          !< a multiple of 8
      real(wp), intent(in), dimension(rows) :: a1, a2, a3, a4     !< those after `columns` are not used
      type(narrow_t), intent(inout) :: sums

      select case (columns)
      case (2)
         call add_two(rows, a1, a2, sums%u, sums%g)
      case (3)
         call add_three(rows, a1, a2, a3, sums%u, sums%g)
      case default
         call add_four(rows, a1, a2, a3, a4, sums%u, sums%g)
      end select
   end subroutine add_narrow

   !> g = g + Y'Y for two columns.
   pure subroutine add_two(rows, a1, a2, u, g)
      integer(ik), intent(in) :: rows
      real(wp), intent(in), dimension(rows) :: a1, a2
      real(wp), intent(in) :: u(NARROW, NARROW)
      real(wp), intent(inout) :: g(NARROW, NARROW)
      real(wp) :: g11, g21, g22, h11, h21, h22, u21, y, z
      integer(ik) :: i, half

      u21 = u(2, 1)
      g11 = 0; g21 = 0; g22 = 0
      h11 = 0; h21 = 0; h22 = 0
      half = rows/2
      ! Twice three sums, because the additions of one sum wait for each other.
      !$omp simd reduction(+: g11, g21, g22, h11, h21, h22) private(y, z)
      do i = 1, half
         y = a2(i) - a1(i)*u21
         g11 = g11 + a1(i)*a1(i)
         g21 = g21 + a1(i)*y
         g22 = g22 + y*y
         z = a2(i + half) - a1(i + half)*u21
         h11 = h11 + a1(i + half)*a1(i + half)
         h21 = h21 + a1(i + half)*z
         h22 = h22 + z*z
      end do
      g(1:2, 1) = g(1:2, 1) + [g11 + h11, g21 + h21]
      g(2, 2) = g(2, 2) + (g22 + h22)
   end subroutine add_two

   !> g = g + Y'Y for three columns.
   pure subroutine add_three(rows, a1, a2, a3, u, g)
      integer(ik), intent(in) :: rows
      real(wp), intent(in), dimension(rows) :: a1, a2, a3
      real(wp), intent(in) :: u(NARROW, NARROW)
      real(wp), intent(inout) :: g(NARROW, NARROW)
      real(wp) :: g11, g21, g31, g22, g32, g33, u21, u31, u32, y2, y3
      integer(ik) :: i

      u21 = u(2, 1); u31 = u(3, 1); u32 = u(3, 2)
      g11 = 0; g21 = 0; g31 = 0
      g22 = 0; g32 = 0; g33 = 0
      !$omp simd reduction(+: g11, g21, g31, g22, g32, g33) private(y2, y3)
      do i = 1, rows
         y2 = a2(i) - a1(i)*u21
         y3 = (a3(i) - a1(i)*u31) - y2*u32
         g11 = g11 + a1(i)*a1(i)
         g21 = g21 + a1(i)*y2
         g31 = g31 + a1(i)*y3
         g22 = g22 + y2*y2
         g32 = g32 + y2*y3
         g33 = g33 + y3*y3
      end do
      g(1:3, 1) = g(1:3, 1) + [g11, g21, g31]
      g(2:3, 2) = g(2:3, 2) + [g22, g32]
      g(3, 3) = g(3, 3) + g33
   end subroutine add_three

   !> g = g + Y'Y for four columns.
   pure subroutine add_four(rows, a1, a2, a3, a4, u, g)
      integer(ik), intent(in) :: rows
      real(wp), intent(in), dimension(rows) :: a1, a2, a3, a4
      real(wp), intent(in) :: u(NARROW, NARROW)
      real(wp), intent(inout) :: g(NARROW, NARROW)
      real(wp) :: g11, g21, g31, g41, g22, g32, g42, g33, g43, g44
      real(wp) :: u21, u31, u41, u32, u42, u43, y2, y3, y4
      integer(ik) :: i

      u21 = u(2, 1); u31 = u(3, 1); u41 = u(4, 1)
      u32 = u(3, 2); u42 = u(4, 2); u43 = u(4, 3)
      g11 = 0; g21 = 0; g31 = 0; g41 = 0
      g22 = 0; g32 = 0; g42 = 0
      g33 = 0; g43 = 0; g44 = 0
      !$omp simd reduction(+: g11, g21, g31, g41, g22, g32, g42, g33, g43, g44) private(y2, y3, y4)
      do i = 1, rows
         y2 = a2(i) - a1(i)*u21
         y3 = (a3(i) - a1(i)*u31) - y2*u32
         y4 = ((a4(i) - a1(i)*u41) - y2*u42) - y3*u43
         g11 = g11 + a1(i)*a1(i)
         g21 = g21 + a1(i)*y2
         g31 = g31 + a1(i)*y3
         g41 = g41 + a1(i)*y4
         g22 = g22 + y2*y2
         g32 = g32 + y2*y3
         g42 = g42 + y2*y4
         g33 = g33 + y3*y3
         g43 = g43 + y3*y4
         g44 = g44 + y4*y4
      end do
      g(1:4, 1) = g(1:4, 1) + [g11, g21, g31, g41]
      g(2:4, 2) = g(2:4, 2) + [g22, g32, g42]
      g(3:4, 3) = g(3:4, 3) + [g33, g43]
      g(4, 4) = g(4, 4) + g44
   end subroutine add_four

   !> End a block: replace the triangle D U by C U, where C'C = D² + Y'Y, unless digits would be lost.
   pure subroutine end_narrow(columns, sums, triangle, ldt, done)
      integer(ik), intent(in) :: columns, ldt
      type(narrow_t), intent(in) :: sums
      real(wp), intent(inout) :: triangle(ldt, columns)
      logical, intent(out) :: done             !< if not, the triangle is unchanged
      real(wp) :: c(NARROW, NARROW)         ! (k, j): row j, column k; on the diagonal C - D
      real(wp) :: d, before, gain, root, inverse, total
      integer(ik) :: i, j, k
      logical :: trusted

      done = .false.
      do j = 1, columns
         d = triangle(j, j)
         before = d**2
         gain = sums%g(j, j)                     ! of the square of the diagonal element
         do i = 1, j - 1
            gain = gain - c(j, i)**2
         end do
         trusted = sums%g(j, j) <= LONGEST*before .and. before + gain >= LEAST_LEFT*(before + sums%g(j, j)) &
            .and. before >= SMALLEST_SUM .and. before + sums%g(j, j) <= LARGEST_SUM
         if (.not. trusted) return
         root = sign(sqrt(before + gain), d)
         inverse = 1/root
         ! Added to D in the end, so that only the last bit of a large element is lost.
         c(j, j) = gain/(root + d)
         do k = j + 1, columns
            total = sums%g(k, j)
            do i = 1, j - 1
               total = total - c(j, i)*c(k, i)
            end do
            c(k, j) = total*inverse
         end do
      end do
      do j = 1, columns
         do k = j + 1, columns
            total = c(k, j) + c(j, j)*sums%u(k, j)
            do i = j + 1, k - 1
               total = total + c(i, j)*sums%u(k, i)
            end do
            triangle(k, j) = triangle(k, j) + total
         end do
         triangle(j, j) = triangle(j, j) + c(j, j)
      end do
      done = .true.
   end subroutine end_narrow

end module TAGGED(leastsq_narrow)
