!> Does a Jacobian belong to its function?  One step along all variables at once checks every row.
!>
!> Moré, Garbow, Hillstrom, ANL-80-74 (1980), chkder.  The caller evaluates f at x and at
!> the neighbour of x, and J at x; here the change of f is compared with J's.
!>
!> Public: neighbour, chkder (its two modes).  Its data is m-sized.
module leastsq_chkder
   use leastsq_kinds, only: wp, ik, EPS
   implicit none (type, external)
   private
   public :: neighbour, chkder

   real(wp), parameter :: STEP = sqrt(EPS)            !< relative
   real(wp), parameter :: LEAST_CHANGE = 100*EPS      !< relative change of f; smaller ones may be rounding

contains

   !> The neighbour of x at which f is to be evaluated.
   pure subroutine neighbour(n, x, xp)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp), intent(out) :: xp(n)
      real(wp) :: h
      integer(ik) :: j

      do j = 1, n
         h = STEP*abs(x(j))
         if (h == 0) h = STEP
         xp(j) = x(j) + h
      end do
   end subroutine neighbour

   !> For each row: 1 if it is right, 0 if it is wrong or the change of f is too small to tell;
   !> in between, the fraction of the expected digits that agree (above ½ the row is probably right).
   pure subroutine chkder(m, n, x, fvec, fjac, ldfjac, fvecp, err)
      integer(ik), intent(in) :: m, n
      integer(ik), intent(in) :: ldfjac           !< leading dimension, >= m
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: fvec(m)             !< f(x)
      real(wp), intent(in) :: fjac(ldfjac, n)     !< J(x)
      real(wp), intent(in) :: fvecp(m)            !< f at the neighbour
      real(wp), intent(out) :: err(m)
      real(wp) :: size, difference
      integer(ik) :: i, j
      logical :: told

      err = 0
      do j = 1, n
         size = abs(x(j))
         if (size == 0) size = 1
         do i = 1, m
            err(i) = err(i) + size*fjac(i, j)
         end do
      end do
      do i = 1, m
         told = fvec(i) /= 0 .and. fvecp(i) /= 0 &
            .and. abs(fvecp(i) - fvec(i)) >= LEAST_CHANGE*abs(fvec(i))
         difference = 1
         if (told) difference = STEP*abs((fvecp(i) - fvec(i))/STEP - err(i)) &
            /(abs(fvec(i)) + abs(fvecp(i)))
         err(i) = agreement(difference)
      end do
   end subroutine chkder

   !> 1 for a relative difference of the size of rounding errors, 0 for one as large as the step.
   elemental function agreement(difference) result(measure)
      real(wp), intent(in) :: difference
      real(wp) :: measure

      measure = 1
      if (difference > EPS .and. difference < STEP) then
         measure = (log10(difference) - log10(STEP))/log10(STEP)
      end if
      if (difference >= STEP) measure = 0
   end function agreement

end module leastsq_chkder
