!> The abstract problem, and the only Levenberg–Marquardt loop.
!>
!> Answers the requests of lm_core (LNM 630, 1978) with the help of a problem,
!> which evaluates f and provides the model R, Q'f: densely (dense.f90) or from an
!> accumulator of rows (blocked.f90).
!>
!> Public: problem_t, watch_c, lm_drive.  Its data is m-sized.
module leastsq_lm_drive
   use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_int, c_loc, c_null_ptr, c_ptr
   use leastsq_kinds, only: wp, ik, sk, ASK_DONE, ASK_NORM, ASK_MODEL, ASK_CHANGE, ASK_FEELER, &
      INFO_STOPPED, INFO_WATCHER
   use leastsq_enorm, only: enorm
   use leastsq_qrsolv, only: damped_solver_t
   use leastsq_lm_core, only: lm_state_t, lm_start, lm_tell_norm, lm_tell_model, lm_tell_change, &
      curvature_base, C_CHANGE, V_X, V_TRIAL
   use leastsq_lm_state, only: PAST_WANTED, PAST_TOLD
   implicit none (type, external)
   private
   public :: problem_t, watch_c, lm_drive

   !> The problem to fit: m residuals of n parameters.  A status other than 0 from any
   !> procedure ends the fit.
   type, abstract :: problem_t
      procedure(watch_c), pointer, nopass :: watch => null()   !< called after every event, if any
      type(c_ptr) :: watch_data = c_null_ptr                   !< its last argument
      ! With a strategy: when `model` is called, its argument spare holds f at the previous x.  `model` may set
      ! w(:, change_column) to Jᵀ(previous f − f), and then sets past_told.
      integer(ik) :: change_column = 0                         !< 0: not wanted
      logical :: past_told = .false.
   contains
      procedure(residual_i), deferred :: residual
      procedure(model_i), deferred :: model
      procedure :: residual_norm => residual_then_norm
      procedure :: difference => residual_then_difference
      procedure :: settle => nothing_to_settle
      procedure :: change => no_change
   end type problem_t

   abstract interface
      !> Gets the state after an event.  A status other than 0 ends the fit.
      function watch_c(s, w, data) bind(c) result(status)
         import :: lm_state_t, c_double, c_int, c_ptr
         implicit none (type, external)
         type(lm_state_t), intent(in) :: s
         real(c_double), intent(in) :: w(s%n, *)
         type(c_ptr), value :: data
         integer(c_int) :: status
      end function watch_c

      !> f = f(x).
      subroutine residual_i(self, m, n, x, f, status)
         import :: problem_t, wp, ik, sk
         implicit none (type, external)
         class(problem_t), intent(inout) :: self
         integer(ik), intent(in) :: m, n
         real(wp), intent(in) :: x(n)
         real(wp), intent(out) :: f(m)
         integer(sk), intent(out) :: status
      end subroutine residual_i

      !> The model at x, given f = f(x), as lm_tell_model wants it: R in r's upper
      !> triangle, ipvt, and w's columns V_QTF and V_COLNORM.  If the Jacobian is not
      !> finite, only a column norm that is not finite need be set.
      subroutine model_i(self, m, n, x, f, r, ldr, ipvt, w, spare, cost, status)
         import :: problem_t, wp, ik, sk
         implicit none (type, external)
         class(problem_t), intent(inout) :: self
         integer(ik), intent(in) :: m, n, ldr
         real(wp), intent(in) :: x(n), f(m)
         real(wp), intent(inout) :: r(ldr, n)
         integer(ik), intent(inout) :: ipvt(n)
         real(wp), intent(inout) :: w(n, *)        !< VECTORS columns; those from V_STEP on may be overwritten
         real(wp), intent(inout) :: spare(m)       !< scratch
         integer(ik), intent(out) :: cost          !< residuals evaluated
         integer(sk), intent(out) :: status
      end subroutine model_i
   end interface

contains

   !> Fit.  On entry s holds the settings and w's column V_X the start (V_DIAG the scale
   !> factors, with SCALE_USER); on return they hold the answer.
   subroutine lm_drive(problem, m, n, s, w, fvec, r, ldr, ipvt, spare, solver)
      class(problem_t), intent(inout) :: problem
      integer(ik), intent(in) :: m                !< residuals, >= n
      integer(ik), intent(in) :: n                !< parameters, s%n
      type(lm_state_t), intent(inout) :: s        !< settings; on return also the outcome
      real(wp), intent(inout) :: w(n, *)          !< lm_core's vectors
      real(wp), intent(inout), target :: fvec(m)  !< f at the answer
      integer(ik), intent(in) :: ldr              !< leading dimension of r, >= n
      real(wp), intent(inout) :: r(ldr, n)        !< R of the last J in its upper triangle
      integer(ik), intent(inout) :: ipvt(n)       !< its permutation
      real(wp), intent(inout), target :: spare(m) !< scratch; may be fvec itself if the problem has a `settle`
      class(damped_solver_t), intent(in), optional :: solver  !< replaces qrsolv
      real(wp), pointer, contiguous :: f(:), f_trial(:), passed(:)
      real(wp) :: fnorm
      integer(ik) :: cost
      integer(ik) :: change                       !< w's column C_CHANGE
      integer(sk) :: status
      logical :: in_spare, answered

      ! f(x) and f(trial) are swapped, not copied, when a step is accepted
      f => fvec
      f_trial => spare
      in_spare = .false.
      cost = 0
      status = 0
      change = curvature_base(n, s%bounded) + C_CHANGE
      call lm_start(s, w)
      do while (s%request /= ASK_DONE)
         select case (s%request)
         case (ASK_NORM)
            cost = 1
            call problem%residual_norm(m, n, w(1, V_TRIAL), f_trial, fnorm, status)
            if (status /= 0) exit
            call lm_tell_norm(s, w, r, ldr, ipvt, fnorm, cost, solver)
            call problem%settle(m, s%accepted == 1, f_trial)
            if (s%accepted == 1) then
               passed => f
               f => f_trial
               f_trial => passed
               in_spare = .not. in_spare
            end if
         case (ASK_CHANGE, ASK_FEELER)
            cost = 0
            if (s%request == ASK_FEELER) then
               cost = 1
               call problem%residual(m, n, w(1, V_TRIAL), f_trial, status)
               if (status /= 0) exit
            end if
            call problem%change(m, n, f, f_trial, w(1, change), answered)
            call lm_tell_change(s, w, r, ldr, ipvt, cost, answered, solver)
         case (ASK_MODEL)
            problem%change_column = merge(change, 0_ik, s%past == PAST_WANTED)
            problem%past_told = .false.
            call problem%model(m, n, w(1, V_X), f, r, ldr, ipvt, w, f_trial, cost, status)
            if (status /= 0) exit
            if (problem%past_told) s%past = PAST_TOLD
            call lm_tell_model(s, w, r, ldr, ipvt, cost, solver)
         end select
         if (associated(problem%watch)) call show(problem, s, w)
      end do
      if (status /= 0) then
         s%info = INFO_STOPPED
         s%nfev = s%nfev + cost                   ! the evaluation that ended the fit counts too
      end if
      if (in_spare .and. .not. c_associated(c_loc(fvec), c_loc(spare))) fvec = spare
   end subroutine lm_drive

   !> Call the watcher with the state, and end the fit if it asks for that.
   subroutine show(problem, s, w)
      class(problem_t), intent(in) :: problem
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(in) :: w(s%n, *)

      if (problem%watch(s, w(1, 1), problem%watch_data) == 0 .or. s%request == ASK_DONE) return
      s%info = INFO_WATCHER
      s%request = ASK_DONE
   end subroutine show

   !> Called once the trial is accepted or rejected.  A problem that kept the residuals
   !> of an accepted trial copies them into f.
   subroutine nothing_to_settle(self, m, accepted, f)
      class(problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m
      logical, intent(in) :: accepted
      real(wp), intent(inout) :: f(m)
   end subroutine nothing_to_settle

   !> change = Jᵀ(f_other − f), with J of the last model: not answered by problems that do not keep J.
   subroutine no_change(self, m, n, f, f_other, change, answered)
      class(problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: f(m), f_other(m)
      real(wp), intent(inout) :: change(n)
      logical, intent(out) :: answered

      answered = .false.
   end subroutine no_change

   !> f and ‖f‖, for problems that have no faster way to both.
   subroutine residual_then_norm(self, m, n, x, f, fnorm, status)
      class(problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(out) :: f(m)
      real(wp), intent(out) :: fnorm
      integer(sk), intent(out) :: status

      fnorm = 0
      call self%residual(m, n, x, f, status)
      if (status == 0) fnorm = enorm(m, f)
   end subroutine residual_then_norm

   !> column = (f(moved) − f)/h, for problems that have no faster way.
   subroutine residual_then_difference(self, m, n, moved, f, h, column, status)
      class(problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: moved(n), f(m), h
      real(wp), intent(out) :: column(m)
      integer(sk), intent(out) :: status
      integer(ik) :: i

      call self%residual(m, n, moved, column, status)
      if (status /= 0) return
      do i = 1, m
         column(i) = (column(i) - f(i))/h
      end do
   end subroutine residual_then_difference

end module leastsq_lm_drive
