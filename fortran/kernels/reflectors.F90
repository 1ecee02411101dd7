#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> One Householder reflector: H = I - tau [1; v] [1; v]' clears a column into alpha.
!>
!> The column's norm comes from its sum of squares where that has all its digits, and
!> otherwise from a sum in units of the largest element.
!>
!> Public: reflector, make_reflector, SMALLEST_SUM, LARGEST_SUM.  Data: one column.
module TAGGED(leastsq_reflectors)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   implicit none (type, external)
   private
   public :: reflector, make_reflector

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

end module TAGGED(leastsq_reflectors)
