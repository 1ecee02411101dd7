!> MINPACK's lmder: a fit with a Jacobian.  A door to lm_drive.
!>
!> MINPACK's argument order (ANL-80-74), without nprint (nothing prints here) and
!> ldfjac (columns are adjacent).
!>
!> Public: lmder.  Its data is m-sized.
module leastsq_lmder
   use, intrinsic :: iso_c_binding, only: c_ptr
   use leastsq_kinds, only: wp, ik
   use leastsq_callbacks, only: residual_c, jacobian_c, jacobian_problem_t
   use leastsq_fit, only: fit
   implicit none (type, external)
   private
   public :: lmder

contains

   subroutine lmder(fcn, jac, data, m, n, x, fvec, fjac, ftol, xtol, gtol, maxfev, diag, mode, &
      factor, info, nfev, njev, ipvt, qtf, work)
      procedure(residual_c) :: fcn                !< the residual
      procedure(jacobian_c) :: jac                !< its Jacobian
      type(c_ptr), intent(in) :: data             !< their last argument
      integer(ik), intent(in) :: m                !< residuals, >= n
      integer(ik), intent(in) :: n                !< parameters, > 0
      real(wp), intent(inout) :: x(n)             !< start; then the answer
      real(wp), intent(out) :: fvec(m)            !< f(x)
      real(wp), intent(out) :: fjac(m, n)         !< factors of the last Jacobian
      real(wp), intent(in) :: ftol, xtol, gtol    !< tolerances, >= 0
      integer(ik), intent(in) :: maxfev           !< most residuals, > 0
      real(wp), intent(inout) :: diag(n)          !< scale factors: the user's, or out
      integer(ik), intent(in) :: mode             !< SCALE_COLUMNS or SCALE_USER
      real(wp), intent(in) :: factor              !< first radius in units of ‖D x‖, > 0
      integer(ik), intent(out) :: info            !< why it ended
      integer(ik), intent(out) :: nfev, njev      !< residuals; Jacobians
      integer(ik), intent(out) :: ipvt(n)         !< the permutation
      real(wp), intent(out) :: qtf(n)             !< Q'f at the last Jacobian
      real(wp), intent(out) :: work(*)            !< work_size(m, n) long
      type(jacobian_problem_t) :: problem

      problem%fcn => fcn
      problem%jac => jac
      problem%data = data
      call fit(problem, m, n, x, fvec, fjac, m, ftol, xtol, gtol, maxfev, diag, mode, factor, &
         info, nfev, njev, ipvt, qtf, work)
   end subroutine lmder

end module leastsq_lmder
