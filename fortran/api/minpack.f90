!> MINPACK's lmdif and lmder: fits without and with a Jacobian function.
!>
!> The arguments are in MINPACK's order (ANL-80-74), without nprint (nothing is printed) and
!> ldfjac (columns are adjacent).  Each puts the settings into lm_core's state, runs lm_drive and
!> returns its answer.
!>
!> Public: lmdif, lmder, work_size.  Its data is m-sized.
module leastsq_minpack
   use, intrinsic :: iso_c_binding, only: c_ptr
   use leastsq_kinds, only: wp, ik, INFO_IMPROPER
   use leastsq_callbacks, only: residual_c, jacobian_c, difference_problem_t, jacobian_problem_t
   use leastsq_lm_core, only: lm_state_t, V_X, V_DIAG, V_QTF, VECTORS
   use leastsq_lm_drive, only: problem_t, lm_drive
   implicit none (type, external)
   private
   public :: lmdif, lmder, work_size

contains

   !> Without a Jacobian: forward differences.
   subroutine lmdif(fcn, data, m, n, x, fvec, ftol, xtol, gtol, maxfev, precision, diag, mode, &
      factor, info, nfev, njev, fjac, ipvt, qtf, work)
      procedure(residual_c) :: fcn                !< the residual
      type(c_ptr), intent(in) :: data             !< its last argument
      integer(ik), intent(in) :: m                !< residuals, >= n
      integer(ik), intent(in) :: n                !< parameters, > 0
      real(wp), intent(inout) :: x(n)             !< start; then the answer
      real(wp), intent(out) :: fvec(m)            !< f(x)
      real(wp), intent(in) :: ftol, xtol, gtol    !< tolerances, >= 0
      integer(ik), intent(in) :: maxfev           !< most residuals, > 0
      real(wp), intent(in) :: precision              !< relative error of f
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
      problem%how%precision = precision
      call fit(problem, m, n, x, fvec, fjac, m, ftol, xtol, gtol, maxfev, diag, mode, factor, &
         info, nfev, njev, ipvt, qtf, work)
   end subroutine lmdif

   !> With the user's Jacobian.
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

   pure function work_size(m, n) result(size)
      integer(ik), intent(in) :: m, n
      integer(ik) :: size

      size = m + n*VECTORS
   end function work_size

   !> The arguments are those of lmdif and lmder; r and ldr belong to the problem's model.
   subroutine fit(problem, m, n, x, fvec, r, ldr, ftol, xtol, gtol, maxfev, diag, mode, factor, &
      info, nfev, njev, ipvt, qtf, work)
      class(problem_t), intent(inout) :: problem
      integer(ik), intent(in) :: m, n, ldr, maxfev, mode
      real(wp), intent(inout) :: x(n), diag(n), r(ldr, n)
      real(wp), intent(out) :: fvec(m), qtf(n)
      real(wp), intent(in) :: ftol, xtol, gtol, factor
      integer(ik), intent(out) :: info, nfev, njev, ipvt(n)
      real(wp), intent(out) :: work(work_size(m, n))
      type(lm_state_t) :: s

      info = INFO_IMPROPER
      nfev = 0
      njev = 0
      if (n <= 0 .or. m < n) return
      s%n = n
      s%maxfev = maxfev
      s%scaling = mode
      s%ftol = ftol
      s%xtol = xtol
      s%gtol = gtol
      s%factor = factor
      call set_column(n, work(m + 1), V_X, x)
      call set_column(n, work(m + 1), V_DIAG, diag)
      call lm_drive(problem, m, n, s, work(m + 1), fvec, r, ldr, ipvt, work)
      call get_column(n, work(m + 1), V_X, x)
      call get_column(n, work(m + 1), V_DIAG, diag)
      call get_column(n, work(m + 1), V_QTF, qtf)
      info = s%info
      nfev = s%nfev
      njev = s%njev
   end subroutine fit

   pure subroutine set_column(n, w, column, values)
      integer(ik), intent(in) :: n
      real(wp), intent(inout) :: w(n, VECTORS)
      integer, intent(in) :: column
      real(wp), intent(in) :: values(n)

      w(:, column) = values
   end subroutine set_column

   pure subroutine get_column(n, w, column, values)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: w(n, VECTORS)
      integer, intent(in) :: column
      real(wp), intent(out) :: values(n)

      values = w(:, column)
   end subroutine get_column

end module leastsq_minpack
