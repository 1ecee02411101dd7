#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Of one column: its norm, and the Householder reflector H = I - tau [1; v] [1; v]' that clears it into alpha.
!>
!> The column's norm comes from its sum of squares where that has all its digits, and
!> otherwise from a sum in units of the largest element.
!>
!> Public: reflector, make_reflector, SMALLEST_SUM, LARGEST_SUM; lsq_norm_<ISA>, for C too.  Data: one column, of any length.
module TAGGED(leastsq_reflectors)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   implicit none (type, external)
   private
   public :: reflector, make_reflector, TAGGED(lsq_norm)

   ! A sum of squares between these limits has all its digits: no square has
   ! overflowed, and squares that underflowed are below rounding.
   real(wp), parameter, public :: SMALLEST_SUM = 2.0_wp**(-900)
   real(wp), parameter, public :: LARGEST_SUM = 2.0_wp**900

contains

   !> The reflector for alpha and a column whose sum of squares is within the limits.
   pure subroutine reflector(square_sum, alpha, tau, inverse)
      real(wp), intent(in) :: square_sum
      real(wp), intent(inout) :: alpha        !< the diagonal element; then the new one
      real(wp), intent(out) :: tau            !< 1 to 2
      real(wp), intent(out) :: inverse        !< factor on the column that gives v
      real(wp) :: norm

      ! The sign opposite to alpha's, so that nothing cancels.
      norm = sign(sqrt(square_sum + alpha**2), alpha)
      tau = 1 + alpha/norm
      inverse = 1/(norm + alpha)
      alpha = -norm
   end subroutine reflector

   !> The reflector that clears a into alpha, whatever their magnitude.
   pure subroutine make_reflector(rows, a, square_sum, alpha, tau)
      integer(ik), intent(in) :: rows
      real(wp), intent(inout) :: a(rows)      !< the column; v on return
      real(wp), intent(in) :: square_sum      !< of a; may have over- or underflowed
      real(wp), intent(inout) :: alpha        !< the diagonal element; then the new one
      real(wp), intent(out) :: tau            !< 1 to 2, or 0: no reflection
      real(wp) :: norm, largest, inverse
      logical :: in_range

      in_range = square_sum >= SMALLEST_SUM .and. square_sum + alpha**2 <= LARGEST_SUM
      if (in_range) then
         call reflector(square_sum, alpha, tau, inverse)
         a = a*inverse
      else
         ! Zero, not finite, or near an end of the range: in units of the largest element.
         tau = 0
         if (square_sum <= 0) then
            if (sum_of_magnitudes(rows, a) <= 0) return
         end if
         ! Only the new alpha is converted back: with a norm rounded to a denormal number,
         ! v and tau would not be a reflection.
         largest = max(maxval(abs(a)), abs(alpha))
         norm = sign(sqrt(sum((a/largest)**2) + (alpha/largest)**2), alpha)
         tau = 1 + (alpha/largest)/norm
         a = ((a/largest)/norm)/tau
         alpha = -largest*norm
      end if
   end subroutine make_reflector

   !> Zero if and only if a is: unlike squares, magnitudes do not underflow.
   pure function sum_of_magnitudes(rows, a) result(total)
      integer(ik), intent(in) :: rows
      real(wp), intent(in) :: a(rows)
      real(wp) :: total
      integer(ik) :: i

      total = 0
      !$omp simd reduction(+: total)
      do i = 1, rows
         total = total + abs(a(i))
      end do
   end function sum_of_magnitudes

   !> ‖x‖ at the speed of memory; NaN or infinite if an element is.
   !>
   !> One vectorised pass.  Only if its sum of squares overflows, underflows or is not finite does a second
   !> pass follow, in units of the largest element (the two-pass scaling that MINPACK's one-pass enorm,
   !> ANL-80-74, replaces).  The sum runs in another order than MINPACK's, so the path that keeps MINPACK's bits
   !> must not use it.
   pure function TAGGED(lsq_norm)(n, x) result(norm) bind(c)
      integer(ik), intent(in), value :: n      !< length, >= 0
      real(wp), intent(in) :: x(n)
      real(wp) :: norm
      real(wp) :: s1, s2, s3, s4, total, largest
      integer(ik) :: i, fours

      ! Four sums, because the additions of one sum wait for each other.
      s1 = 0; s2 = 0; s3 = 0; s4 = 0
      fours = n/4
      !$omp simd reduction(+: s1, s2, s3, s4)
      do i = 1, fours
         s1 = s1 + x(i)*x(i)
         s2 = s2 + x(i + fours)*x(i + fours)
         s3 = s3 + x(i + 2*fours)*x(i + 2*fours)
         s4 = s4 + x(i + 3*fours)*x(i + 3*fours)
      end do
      total = (s1 + s2) + (s3 + s4)
      do i = 4*fours + 1, n
         total = total + x(i)*x(i)
      end do

      if (total >= SMALLEST_SUM .and. total <= LARGEST_SUM) then
         norm = sqrt(total)
         return
      end if
      largest = 0
      do i = 1, n
         largest = max(largest, abs(x(i)))
      end do
      if (largest <= 0 .and. total <= 0) then
         norm = 0
      else if (largest > huge(largest)) then
         norm = largest
      else
         total = 0
         do i = 1, n
            total = total + (x(i)/largest)**2
         end do
         norm = largest*sqrt(total)
      end if
   end function TAGGED(lsq_norm)

end module TAGGED(leastsq_reflectors)
