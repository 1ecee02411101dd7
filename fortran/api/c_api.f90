!> The core's C interface: the procedures that core.h declares, and no others.
!>
!> Each procedure passes its arguments on; C pointers that may be NULL are resolved here.
!>
!> Public: the bind(c) names.  Its data is n- and m-sized.
module leastsq_c_api
   use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_f_pointer, c_f_procpointer, &
      c_funptr, c_int, c_int64_t, c_ptr
   use leastsq_kinds, only: wp, ik, INFO_NOT_FINITE
   use leastsq_callbacks, only: residual_c, jacobian_c, difference_problem_t
   use leastsq_blocked, only: blocked_solver_t, SOLVE_BY_BLOCKS
   use leastsq_bounds, only: free_covar
   use leastsq_problem_record, only: problem_record_t, fit_record
   use leastsq_chkder, only: chkder, neighbour
   use leastsq_covar, only: covar
    use leastsq_dense, only: dense_model, change_along
    use leastsq_enorm, only: enorm, settled_norm, column_norms
   use leastsq_fdjac2, only: differences_t, fdjac2, difference_steps, relative_step
   use leastsq_lm_core, only: lm_state_t, lm_start, lm_tell_norm, lm_tell_model, lm_tell_change, core_columns
   use leastsq_lm_state, only: V_X, V_COLNORM, V_LO, V_HI, V_SLOPE, V_LARGEST
   use leastsq_minpack, only: lmder, lmdif, work_size
   use leastsq_lmpar, only: lmpar
   use leastsq_probes, only: held
   use leastsq_qrfac, only: qrfac
   use leastsq_qrsolv, only: qrsolv
   implicit none (type, external)
   private

contains

   function lsq_work_size(m, n) bind(c) result(size)
      integer(c_int64_t), value :: m, n
      integer(c_int64_t) :: size

      size = work_size(m, n)
   end function lsq_work_size

   subroutine lsq_lmdif(fcn, data, m, n, x, fvec, ftol, xtol, gtol, maxfev, precision, diag, mode, &
      factor, info, nfev, njev, fjac, ipvt, qtf, work) bind(c)
      type(c_funptr), value :: fcn
      type(c_ptr), value :: data
      integer(c_int64_t), value :: m, n, maxfev, mode
      real(c_double), value :: ftol, xtol, gtol, precision, factor
      real(c_double), intent(inout) :: x(n), fvec(m), diag(n), fjac(m, n), qtf(n), work(*)
      integer(c_int64_t), intent(out) :: info, nfev, njev
      integer(c_int64_t), intent(inout) :: ipvt(n)
      procedure(residual_c), pointer :: residual

      call c_f_procpointer(fcn, residual)
      call lmdif(residual, data, m, n, x, fvec, ftol, xtol, gtol, maxfev, precision, diag, mode, &
         factor, info, nfev, njev, fjac, ipvt, qtf, work)
   end subroutine lsq_lmdif

   subroutine lsq_lmder(fcn, jac, data, m, n, x, fvec, fjac, ftol, xtol, gtol, maxfev, diag, mode, &
      factor, info, nfev, njev, ipvt, qtf, work) bind(c)
      type(c_funptr), value :: fcn, jac
      type(c_ptr), value :: data
      integer(c_int64_t), value :: m, n, maxfev, mode
      real(c_double), value :: ftol, xtol, gtol, factor
      real(c_double), intent(inout) :: x(n), fvec(m), fjac(m, n), diag(n), qtf(n), work(*)
      integer(c_int64_t), intent(out) :: info, nfev, njev
      integer(c_int64_t), intent(inout) :: ipvt(n)
      procedure(residual_c), pointer :: residual
      procedure(jacobian_c), pointer :: jacobian

      call c_f_procpointer(fcn, residual)
      call c_f_procpointer(jac, jacobian)
      call lmder(residual, jacobian, data, m, n, x, fvec, fjac, ftol, xtol, gtol, maxfev, diag, &
         mode, factor, info, nfev, njev, ipvt, qtf, work)
   end subroutine lsq_lmder

   subroutine lsq_fit(problem, m, s, w, fvec, r, ldr, ipvt, spare) bind(c)
      type(problem_record_t), intent(in) :: problem
      integer(c_int64_t), value :: m, ldr
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *), fvec(m), r(ldr, s%n), spare(m)
      integer(c_int64_t), intent(inout) :: ipvt(s%n)

      call fit_record(problem, m, s, w, fvec, r, ldr, ipvt, spare)
   end subroutine lsq_fit

   function lsq_core_columns(n, bounded, strategy) bind(c) result(columns)
      integer(c_int64_t), value :: n, bounded, strategy
      integer(c_int64_t) :: columns

      columns = core_columns(n, bounded, strategy)
   end function lsq_core_columns

   subroutine lsq_multipliers(s, w, multipliers) bind(c)
      type(lm_state_t), intent(in) :: s
      real(c_double), intent(in) :: w(s%n, *)
      real(c_double), intent(out) :: multipliers(s%n)

      multipliers = 0
      if (s%bounded == 0 .or. s%njev == 0 .or. s%info == INFO_NOT_FINITE) return
      multipliers = held(w(:, V_X), w(:, V_LO), w(:, V_HI), w(:, V_SLOPE), w(:, V_COLNORM), &
         w(:, V_LARGEST), s%fnorm)
   end subroutine lsq_multipliers

   subroutine lsq_start(s, w) bind(c)
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *)

      call lm_start(s, w)
   end subroutine lsq_start

   subroutine lsq_tell_norm(s, w, r, ldr, ipvt, fnorm, cost) bind(c)
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *)
      integer(c_int64_t), value :: ldr, cost
      real(c_double), intent(inout) :: r(ldr, s%n)
      integer(c_int64_t), intent(in) :: ipvt(s%n)
      real(c_double), value :: fnorm

      call lm_tell_norm(s, w, r, ldr, ipvt, fnorm, cost)
   end subroutine lsq_tell_norm

   subroutine lsq_tell_model(s, w, r, ldr, ipvt, cost) bind(c)
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *)
      integer(c_int64_t), value :: ldr, cost
      real(c_double), intent(inout) :: r(ldr, s%n)
      integer(c_int64_t), intent(in) :: ipvt(s%n)

      call lm_tell_model(s, w, r, ldr, ipvt, cost)
   end subroutine lsq_tell_model

   subroutine lsq_tell_change(s, w, r, ldr, ipvt, cost, answered, damped, work) bind(c)
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *)
      integer(c_int64_t), value :: ldr, cost
      real(c_double), intent(inout) :: r(ldr, s%n)
      integer(c_int64_t), intent(in) :: ipvt(s%n)
      integer(c_int), value :: answered
      type(c_funptr), value :: damped
      type(c_ptr), value :: work
      type(blocked_solver_t) :: solver

      if (.not. c_associated(damped) .or. s%n < SOLVE_BY_BLOCKS) then
         call lm_tell_change(s, w, r, ldr, ipvt, cost, answered /= 0)
      else
         call c_f_procpointer(damped, solver%by_blocks)
         solver%work = work
         call lm_tell_change(s, w, r, ldr, ipvt, cost, answered /= 0, solver)
      end if
   end subroutine lsq_tell_change

   subroutine lsq_change_along(m, n, jac, f, f_other, change, weights) bind(c)
      integer(c_int64_t), value :: m, n
      real(c_double), intent(in) :: jac(m, n), f(m), f_other(m)
      real(c_double), intent(out) :: change(n)
      real(c_double), intent(in), optional :: weights(m)

      call change_along(m, n, jac, f, f_other, change, weights)
   end subroutine lsq_change_along

   subroutine lsq_tell_norm_blocked(s, w, r, ldr, ipvt, fnorm, cost, damped, work) bind(c)
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *)
      integer(c_int64_t), value :: ldr, cost
      real(c_double), intent(inout) :: r(ldr, s%n)
      integer(c_int64_t), intent(in) :: ipvt(s%n)
      real(c_double), value :: fnorm
      type(c_funptr), value :: damped
      type(c_ptr), value :: work
      type(blocked_solver_t) :: solver

      if (.not. c_associated(damped) .or. s%n < SOLVE_BY_BLOCKS) then
         call lm_tell_norm(s, w, r, ldr, ipvt, fnorm, cost)
      else
         call c_f_procpointer(damped, solver%by_blocks)
         solver%work = work
         call lm_tell_norm(s, w, r, ldr, ipvt, fnorm, cost, solver)
      end if
   end subroutine lsq_tell_norm_blocked

   subroutine lsq_tell_model_blocked(s, w, r, ldr, ipvt, cost, damped, work) bind(c)
      type(lm_state_t), intent(inout) :: s
      real(c_double), intent(inout) :: w(s%n, *)
      integer(c_int64_t), value :: ldr, cost
      real(c_double), intent(inout) :: r(ldr, s%n)
      integer(c_int64_t), intent(in) :: ipvt(s%n)
      type(c_funptr), value :: damped
      type(c_ptr), value :: work
      type(blocked_solver_t) :: solver

      if (.not. c_associated(damped) .or. s%n < SOLVE_BY_BLOCKS) then
         call lm_tell_model(s, w, r, ldr, ipvt, cost)
      else
         call c_f_procpointer(damped, solver%by_blocks)
         solver%work = work
         call lm_tell_model(s, w, r, ldr, ipvt, cost, solver)
      end if
   end subroutine lsq_tell_model_blocked

   function lsq_relative_step(precision) bind(c) result(relative)
      real(c_double), value :: precision
      real(c_double) :: relative

      relative = relative_step(precision)
   end function lsq_relative_step

   subroutine lsq_difference_steps(n, x, relative, stride, moved, steps, lo, hi, largest) bind(c)
      integer(c_int64_t), value :: n, stride
      real(c_double), intent(in) :: x(n), relative(*)
      real(c_double), intent(out) :: moved(n), steps(n)
      real(c_double), intent(in), optional :: lo(n), hi(n), largest(n)

      call difference_steps(n, x, relative, stride, moved, steps, lo, hi, largest)
   end subroutine lsq_difference_steps

   function lsq_enorm(n, x) bind(c) result(norm)
      integer(c_int64_t), value :: n
      real(c_double), intent(in) :: x(n)
      real(c_double) :: norm

      norm = enorm(n, x)
   end function lsq_enorm

   function lsq_settled_norm(n, x, total) bind(c) result(norm)
      integer(c_int64_t), value :: n
      real(c_double), intent(in) :: x(n)
      real(c_double), value :: total
      real(c_double) :: norm

      norm = settled_norm(n, x, total)
   end function lsq_settled_norm

   subroutine lsq_column_norms(m, n, a, lda, norms) bind(c)
      integer(c_int64_t), value :: m, n, lda
      real(c_double), intent(in) :: a(lda, n)
      real(c_double), intent(out) :: norms(n)

      call column_norms(m, n, a, lda, norms)
   end subroutine lsq_column_norms

   subroutine lsq_fdjac2(fcn, data, m, n, x, fvec, fjac, how, xwork, status) bind(c)
      type(c_funptr), value :: fcn
      type(c_ptr), value :: data
      integer(c_int64_t), value :: m, n
      real(c_double), intent(in) :: x(n), fvec(m)
      real(c_double), intent(inout) :: fjac(m, n), xwork(n)
      type(differences_t), intent(in) :: how
      integer(c_int), intent(out) :: status
      type(difference_problem_t) :: problem
      integer(ik) :: made

      call c_f_procpointer(fcn, problem%fcn)
      problem%data = data
      call fdjac2(problem, m, n, x, fvec, fjac, how, xwork, made, status)
   end subroutine lsq_fdjac2

   !> MINPACK's two modes: 1 sets xp, 2 sets err.  Arguments that a mode does not need may be NULL.
   subroutine lsq_chkder(m, n, x, fvec, fjac, ldfjac, xp, fvecp, mode, err) bind(c)
      integer(c_int64_t), value :: m, n, ldfjac, mode
      real(c_double), intent(in) :: x(n)
      real(c_double), intent(in), optional :: fvec(m), fjac(ldfjac, n), fvecp(m)
      real(c_double), intent(inout), optional :: xp(n), err(m)

      if (mode == 1) then
         if (present(xp)) call neighbour(n, x, xp)
      else if (present(fvec) .and. present(fjac) .and. present(fvecp) .and. present(err)) then
         call chkder(m, n, x, fvec, fjac, ldfjac, fvecp, err)
      end if
   end subroutine lsq_chkder

   subroutine lsq_qrfac(m, n, a, lda, pivot, ipvt, rdiag, acnorm, wa, b) bind(c)
      integer(c_int64_t), value :: m, n, lda, pivot
      real(c_double), intent(inout) :: a(lda, n), rdiag(n), acnorm(n), wa(n)
      integer(c_int64_t), intent(inout) :: ipvt(n)
      type(c_ptr), value :: b
      real(wp), pointer, contiguous :: rhs(:)

      if (c_associated(b)) then
         call c_f_pointer(b, rhs, [m])
         call qrfac(m, n, a, lda, pivot /= 0, ipvt, rdiag, acnorm, wa, rhs)
      else
         call qrfac(m, n, a, lda, pivot /= 0, ipvt, rdiag, acnorm, wa)
      end if
   end subroutine lsq_qrfac

   subroutine lsq_dense_model(m, n, fjac, f, ipvt, qtf, colnorm, work) bind(c)
      integer(c_int64_t), value :: m, n
      real(c_double), intent(inout) :: fjac(m, n), f(m)
      integer(c_int64_t), intent(out) :: ipvt(n)
      real(c_double), intent(out) :: qtf(n), colnorm(n), work(n, 2)

      call dense_model(m, n, fjac, f, ipvt, qtf, colnorm, work)
   end subroutine lsq_dense_model

   subroutine lsq_qrsolv(n, r, ldr, ipvt, diag, qtb, x, sdiag, wa) bind(c)
      integer(c_int64_t), value :: n, ldr
      real(c_double), intent(inout) :: r(ldr, n), x(n), sdiag(n), wa(n)
      integer(c_int64_t), intent(in) :: ipvt(n)
      real(c_double), intent(in) :: diag(n), qtb(n)

      call qrsolv(n, r, ldr, ipvt, diag, qtb, x, sdiag, wa)
   end subroutine lsq_qrsolv

   subroutine lsq_lmpar(n, r, ldr, ipvt, diag, qtb, delta, par, x, sdiag, wa1, wa2) bind(c)
      integer(c_int64_t), value :: n, ldr
      real(c_double), intent(inout) :: r(ldr, n), par, x(n), sdiag(n), wa1(n), wa2(n)
      integer(c_int64_t), intent(in) :: ipvt(n)
      real(c_double), intent(in) :: diag(n), qtb(n)
      real(c_double), value :: delta
      real(wp) :: length

      call lmpar(n, r, ldr, ipvt, diag, qtb, delta, par, x, length, sdiag, wa1, wa2)
   end subroutine lsq_lmpar

   function lsq_covar(n, r, ldr, ipvt, tol, cov, work) bind(c) result(rank)
      integer(c_int64_t), value :: n, ldr
      real(c_double), intent(in) :: r(ldr, n)
      integer(c_int64_t), intent(in) :: ipvt(n)
      real(c_double), value :: tol
      real(c_double), intent(inout) :: cov(n, n), work(n, n)
      integer(c_int64_t) :: rank

      call covar(n, r, ldr, ipvt, tol, cov, rank, work)
   end function lsq_covar

   function lsq_free_covar(n, r, ldr, ipvt, x, lo, hi, cov, side, work) bind(c) result(determined)
      integer(c_int64_t), value :: n, ldr
      real(c_double), intent(in) :: r(ldr, n), x(n), lo(n), hi(n)
      integer(c_int64_t), intent(in) :: ipvt(n)
      real(c_double), intent(inout) :: cov(n, n), side(n), work(n, 2*n + 1)
      integer(c_int64_t) :: determined
      logical :: independent

      call free_covar(n, r, ldr, ipvt, x, lo, hi, cov, side, independent, work, work(1, n + 1), &
         work(1, 2*n + 1))
      determined = merge(1_ik, 0_ik, independent)
   end function lsq_free_covar

end module leastsq_c_api
