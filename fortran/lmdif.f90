!> MINPACK's lmdif: a fit without a Jacobian.  A door to lm_drive.
!>
!> MINPACK's argument order (ANL-80-74), without nprint (nothing prints here) and
!> ldfjac (columns are adjacent).
!>
!> Public: lmdif.  Its data is m-sized.
module leastsq_lmdif
   use, intrinsic :: iso_c_binding, only: c_ptr
   use leastsq_kinds, only: wp, ik
   use leastsq_callbacks, only: residual_c, difference_problem_t
   use leastsq_fit, only: fit
   implicit none (type, external)
   private
   public :: lmdif

contains

   subroutine lmdif(fcn, data, m, n, x, fvec, ftol, xtol, gtol, maxfev, epsfcn, diag, mode, &
      factor, info, nfev, njev, fjac, ipvt, qtf, work)
      procedure(residual_c) :: fcn                !< the residual
      type(c_ptr), intent(in) :: data             !< its last argument
      integer(ik), intent(in) :: m                !< residuals, >= n
      integer(ik), intent(in) :: n                !< parameters, > 0
      real(wp), intent(inout) :: x(n)             !< start; then the answer
      real(wp), intent(out) :: fvec(m)            !< f(x)
      real(wp), intent(in) :: ftol, xtol, gtol    !< tolerances, >= 0
      integer(ik), intent(in) :: maxfev           !< most residuals, > 0
      real(wp), intent(in) :: epsfcn              !< relative error of f
      real(wp), intent(inout) :: diag(n)          !< scale factors: the user's, or out
      integer(ik), intent(in) :: mode             !< SCALE_COLUMNS or SCALE_USER
      real(wp), intent(in) :: factor              !< first radius in units of ‖D x‖, > 0
      integer(ik), intent(out) :: info            !< why it ended
      integer(ik), intent(out) :: nfev, njev      !< residuals; Jacobians
      real(wp), intent(out) :: fjac(m, n)         !< factors of the last Jacobian
      integer(ik), intent(out) :: ipvt(n)         !< its permutation
      real(wp), intent(out) :: qtf(n)             !< Q'f there
      real(wp), intent(out) :: work(*)            !< work_size(m, n) long
      type(difference_problem_t) :: problem

      problem%fcn => fcn
      problem%data = data
      problem%epsfcn = epsfcn
      call fit(problem, m, n, x, fvec, fjac, m, ftol, xtol, gtol, maxfev, diag, mode, factor, &
         info, nfev, njev, ipvt, qtf, work)
   end subroutine lmdif

end module leastsq_lmdif
