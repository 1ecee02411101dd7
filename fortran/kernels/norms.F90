#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> The Euclidean norm at the speed of memory.
!>
!> One vectorised pass.  Only if its sum of squares overflows, underflows or is not
!> finite does a second pass follow, in units of the largest element (the two-pass
!> scaling that MINPACK's one-pass enorm, ANL-80-74, replaces).
!>
!> Public: lsq_norm_<ISA>, for C too.  For n- and m-sized data.  The sum runs in another
!> order than MINPACK's, so the path that keeps MINPACK's bits must not use it.
module TAGGED(leastsq_norms)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   implicit none (type, external)
   private
   public :: TAGGED(lsq_norm)

   ! A sum of squares between these limits has all its digits: no square has
   ! overflowed, and squares that underflowed are below rounding.
   real(wp), parameter :: SMALLEST_SUM = 2.0_wp**(-900)
   real(wp), parameter :: LARGEST_SUM = 2.0_wp**900

contains

   !> ‖x‖; NaN or infinite if an element is.
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

end module TAGGED(leastsq_norms)
