!> The Levenberg–Marquardt trust region as a machine that asks and is told.
!>
!> Moré, *The Levenberg–Marquardt algorithm: implementation and theory*, LNM 630
!> (1978); ANL-80-74 (1980).  After the QR factorisation of the Jacobian nothing
!> of the data's length is needed, so this machine holds no such array: it asks for ‖f‖ at
!> `trial` (ASK_NORM), for R, the permutation, Q'f and the column norms of J at x
!> (ASK_MODEL), or is done.  With bounds on x, every trial is within them: a step
!> (bounds.f90), or a probe elsewhere before the fit may end (probes.f90).  With a strategy
!> other than MINPACK's, steps are bent by the curvature of f (curvature.f90). For some of them the machine asks
!> for Jᵀ(f(trial) − f(x)): at the last trial whose norm was told (ASK_CHANGE), or elsewhere (ASK_FEELER).
!>
!> Public: lm_state_t, core_columns and the names of the columns (all from lm_state.f90), lm_start,
!> lm_tell_norm, lm_tell_model, lm_tell_change, and the policy as pure functions.  Its data is n-sized.
module leastsq_lm_core
   use leastsq_kinds, only: wp, ik, EPS, ASK_DONE, ASK_NORM, ASK_MODEL, ASK_CHANGE, ASK_FEELER, SCALE_COLUMNS, SCALE_USER, &
      INFO_IMPROPER, INFO_FTOL, INFO_XTOL, INFO_FTOL_XTOL, INFO_GTOL, INFO_MAXFEV, INFO_FTOL_TOO_SMALL, &
      INFO_XTOL_TOO_SMALL, INFO_GTOL_TOO_SMALL, INFO_NOT_FINITE, STRATEGY_MINPACK, STRATEGY_ROBUST
   use leastsq_bounds, only: feasible, find_sides, projected_cosine, near_box, bounded_step, go_within_bounds, predict
   use leastsq_curvature, only: learn_from_past, bend_step, second_try_wanted, try_again, follow_feeler
   use leastsq_enorm, only: enorm
   use leastsq_lm_state, only: lm_state_t, core_columns, curvature_base, C_CHANGE, C_LARGEST, C_START, PAST_NONE, V_X, V_TRIAL, &
      V_STEP, V_DIAG, V_COLNORM, V_QTF, V_SCRATCH, VECTORS, V_LO, V_HI, V_SIDE, V_SLOPE, V_LARGEST, V_FELT, V_WARY, &
      V_NEAR_LO, V_NEAR_HI, PROBE_NONE, PROBE_BACK, PROBE_RETURN, FELT_NOWHERE, FELT_HERE, FEARLESS, WARY
   use leastsq_lmpar, only: lmpar
   use leastsq_probes, only: leave_bounds, tell_probe, move, measure_point, dead, keep_away, retreat, &
      search_start
   use leastsq_products, only: triangle_times, transposed_times, largest_cosine, scaled_norm
   use leastsq_qrsolv, only: damped_solver_t
   use leastsq_restarts, only: finish, restart_factor
   implicit none (type, external)
   private
   public :: lm_state_t, lm_start, lm_tell_norm, lm_tell_model, lm_tell_change, core_columns
   public :: curvature_base, C_CHANGE, C_LARGEST
   public :: V_X, V_TRIAL, V_STEP, V_DIAG, V_COLNORM, V_QTF, V_SCRATCH, VECTORS
   public :: actual_reduction, reduction_ratio, update_radius, update_distrust, verdict

   real(wp), parameter :: RATIO_ACCEPT = 1.0e-4_wp
   real(wp), parameter :: RATIO_POOR = 0.25_wp
   real(wp), parameter :: RATIO_GOOD = 0.75_wp
   real(wp), parameter :: LEAST_SHRINK = 0.1_wp
   real(wp), parameter :: MOST_SHRINK = 0.5_wp
   real(wp), parameter :: STALL_COSINE = 0.01_wp  ! far from orthogonal
   real(wp), parameter :: NORM_BLOW_UP = 0.1_wp   ! times ‖f₊‖ at least ‖f‖: hopeless

   ! With bounds
   real(wp), parameter :: MEMORY = 0.1_wp         !< fraction of the distrust that even the best step leaves
   real(wp), parameter :: UNFELT = 1.0e-300_wp    !< D for a column of zeros: below the scale of any units
   real(wp), parameter :: NO_SIZE = 1.0e-150_wp   !< largest ‖D x‖ if every variable is zero or has a column of zeros
   real(wp), parameter :: FIRST_CHANGE = 0.3_wp   !< in that case the first radius is this times factor·‖f‖
   real(wp), parameter :: FADING = 0.9_wp         !< D shrinks by this at every model once bounds have cut a step

contains

   !> Begin at x (w's first column).  Improper settings end the fit at once.
   pure subroutine lm_start(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)

      s%info = INFO_IMPROPER
      s%accepted = 0
      s%nfev = 0
      s%njev = 0
      s%iteration = 0
      s%fnorm = 0; s%xnorm = 0; s%gnorm = 0
      s%radius = 0; s%par = 0; s%pnorm = 0
      s%actual = 0; s%predicted = 0; s%slope = 0; s%ratio = 0
      s%hits = 0; s%touched = 0; s%distrust = 1
      s%probe = PROBE_NONE; s%pending = 0; s%felt = FELT_NOWHERE
      s%restarts = 0; s%tries = 0; s%best_info = 0; s%best_norm = 0; s%tried_norm = 0
      s%past = PAST_NONE; s%known = 0; s%attempt = 0; s%sound = 0; s%first_norm = 0; s%start_norm = 0
      s%request = ASK_DONE
      if (.not. proper(s)) return
      if (s%scaling == SCALE_USER) then
         if (.not. all(w(:, V_DIAG) > 0)) return
      end if
      if (s%bounded /= 0) then
         if (.not. feasible(s%n, w(1, V_X), w(1, V_LO), w(1, V_HI))) return
         w(:, V_LARGEST) = abs(w(:, V_X))
         w(:, V_WARY) = FEARLESS
      end if
      if (s%strategy /= STRATEGY_MINPACK) then
         w(:, curvature_base(s%n, s%bounded) + C_LARGEST) = abs(w(:, V_X))
         w(:, curvature_base(s%n, s%bounded) + C_START) = w(:, V_X)
      end if
      w(:, V_TRIAL) = w(:, V_X)
      s%request = ASK_NORM
   end subroutine lm_start

   !> Tell ‖f(trial)‖, which took `cost` evaluations.
   pure subroutine lm_tell_norm(s, w, r, ldr, ipvt, fnorm, cost, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      real(wp), intent(in) :: fnorm
      integer(ik), intent(in) :: cost
      class(damped_solver_t), intent(in), optional :: solver
      real(wp) :: actual, ratio

      s%nfev = s%nfev + cost
      s%past = PAST_NONE
      if (s%iteration == 0) then
         call take_first_norm(s, w, fnorm)
         return
      end if

      if (s%probe /= PROBE_NONE) then
         call tell_probe(s, w, fnorm)
         return
      end if
      actual = s%actual
      ratio = s%ratio
      call measure_step(s, w, r, ldr, ipvt, fnorm)
      s%accepted = 0
      if (s%attempt == 1 .and. .not. fnorm < s%first_norm) then    ! judge the first try; show the numbers of the second
         call swap(actual, s%actual)
         call swap(ratio, s%ratio)
         call judge(s, w, r, ldr, ipvt, s%first_norm, solver)
         s%actual = actual
         s%ratio = ratio
      else if (s%strategy /= STRATEGY_MINPACK .and. .not. s%ratio >= RATIO_ACCEPT &
         .and. second_try_wanted(s, fnorm)) then
         s%first_norm = fnorm
         s%request = ASK_CHANGE
      else
         call judge(s, w, r, ldr, ipvt, fnorm, solver)
      end if
   end subroutine lm_tell_norm

   !> Tell that w's column C_CHANGE is set for the trial, after `cost` evaluations; not `answered`: it cannot be
   !> provided, now or later.
   pure subroutine lm_tell_change(s, w, r, ldr, ipvt, cost, answered, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      integer(ik), intent(in) :: cost
      logical, intent(in) :: answered
      class(damped_solver_t), intent(in), optional :: solver

      s%nfev = s%nfev + cost
      s%accepted = 0
      if (.not. answered) s%changes = 0
      if (s%request == ASK_FEELER) then
         call follow_feeler(s, w, r, ldr, ipvt, answered, solver)
      else
         if (answered) call try_again(s, w, r, ldr, ipvt, solver)
         if (s%attempt == 0) call judge(s, w, r, ldr, ipvt, s%first_norm, solver)
      end if
   end subroutine lm_tell_change

   !> Accept or reject the step, given ‖f‖ at its trial, and make the next request.
   pure subroutine judge(s, w, r, ldr, ipvt, fnorm, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      real(wp), intent(in) :: fnorm
      class(damped_solver_t), intent(in), optional :: solver
      real(wp) :: last_radius
      logical :: accepted

      last_radius = s%radius
      call update_radius(s%ratio, s%actual, s%slope, s%pnorm, &
         NORM_BLOW_UP*fnorm >= s%fnorm, s%radius, s%par)
      accepted = s%ratio >= RATIO_ACCEPT
      if (s%bounded /= 0) then
         call correct_radius(last_radius, s%pnorm, accepted, s%hits, s%radius)
         call update_distrust(s%ratio, accepted, s%hits, s%distrust)
         if (s%hits > 0 .and. .not. fnorm <= huge(fnorm)) call keep_away(w(:, V_TRIAL), w(:, V_STEP), &
            w(:, V_LO), w(:, V_HI), WARY, w(:, V_WARY))
      end if
      if (accepted) call move(s, w, fnorm)

      s%info = verdict(s)
      if (s%info /= 0) then
         call finish(s, w, r, ldr, ipvt)
      else if (accepted) then
         s%request = ASK_MODEL
      else
         call propose(s, w, r, ldr, ipvt, solver)
      end if
   end subroutine judge

   !> Tell the model at x, which took `cost` evaluations: R in r's upper triangle,
   !> ipvt, and w's columns V_QTF and V_COLNORM.
   pure subroutine lm_tell_model(s, w, r, ldr, ipvt, cost, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      integer(ik), intent(in) :: cost
      class(damped_solver_t), intent(in), optional :: solver
      logical :: first

      s%nfev = s%nfev + cost
      s%njev = s%njev + 1
      s%accepted = 0
      first = s%njev == 1
      if (.not. all(w(:, V_COLNORM) <= huge(1.0_wp))) then
         call retreat(s, w)
         return
      end if

      if (first .or. s%probe == PROBE_BACK) call scale_first(s, w)
      if (s%bounded /= 0) then
         call project_gradient(s, w, r, ldr, ipvt)
         if (s%probe == PROBE_RETURN) then
            s%info = s%pending
            s%request = ASK_DONE
            return
         end if
         s%probe = PROBE_NONE
         if (first) call leave_bounds(s, w)
         if (s%probe /= PROBE_NONE) return
         if (.not. any(dead(w(:, V_COLNORM), w(:, V_LARGEST), w(:, V_LO), w(:, V_HI), s%fnorm))) then
            w(:, V_FELT) = w(:, V_X)
            s%felt = FELT_HERE
         end if
      else
         call largest_cosine(s%n, r, ldr, ipvt, w(1, V_QTF), w(1, V_COLNORM), s%fnorm, &
            w(1, V_SCRATCH), s%gnorm)
         if (s%probe == PROBE_RETURN) then
            s%info = s%pending
            s%request = ASK_DONE
            return
         end if
         s%probe = PROBE_NONE
      end if
      if (s%gnorm <= s%gtol) then
         s%info = INFO_GTOL
         call finish(s, w, r, ldr, ipvt)
         return
      end if
      if (s%scaling == SCALE_COLUMNS) then
         if (s%touched /= 0) w(:, V_DIAG) = FADING*w(:, V_DIAG)
         w(:, V_DIAG) = max(w(:, V_DIAG), w(:, V_COLNORM))
      end if
      if (s%strategy /= STRATEGY_MINPACK) call learn_from_past(s, w, r, ldr, ipvt)
      call propose(s, w, r, ldr, ipvt, solver)
   end subroutine lm_tell_model

   ! ---------------------------------------------------------------------------
   ! Policy

   !> 1 − (‖f₊‖/‖f‖)², or −1 where the trial is hopeless (NaN included).
   elemental function actual_reduction(fnorm, trial_norm) result(actual)
      real(wp), intent(in) :: fnorm, trial_norm
      real(wp) :: actual

      actual = -1
      if (NORM_BLOW_UP*trial_norm < fnorm) actual = 1 - (trial_norm/fnorm)**2
   end function actual_reduction

   elemental function reduction_ratio(actual, predicted) result(ratio)
      real(wp), intent(in) :: actual, predicted
      real(wp) :: ratio

      ratio = 0
      if (predicted /= 0) ratio = actual/predicted
   end function reduction_ratio

   !> The next radius, and the next estimate of the Levenberg–Marquardt parameter.
   elemental subroutine update_radius(ratio, actual, slope, pnorm, blown_up, radius, par)
      real(wp), intent(in) :: ratio, actual, slope, pnorm
      logical, intent(in) :: blown_up             !< ‖f₊‖ >= 10 ‖f‖
      real(wp), intent(inout) :: radius, par
      real(wp) :: shrink
      logical :: poor

      poor = .not. ratio > RATIO_POOR             ! NaN is poor
      if (poor) then
         shrink = MOST_SHRINK
         if (actual < 0) shrink = 0.5_wp*slope/(slope + 0.5_wp*actual)
         if (blown_up .or. shrink < LEAST_SHRINK) shrink = LEAST_SHRINK
         radius = shrink*min(radius, pnorm/0.1_wp)
         par = par/shrink
      else if (par == 0 .or. ratio >= RATIO_GOOD) then
         radius = pnorm/0.5_wp
         par = 0.5_wp*par
      end if
   end subroutine update_radius

   !> With bounds: an accepted step that they cut short does not shrink the radius, and
   !> a rejected step must not be proposed again.
   elemental subroutine correct_radius(last_radius, pnorm, accepted, hits, radius)
      real(wp), intent(in) :: last_radius, pnorm
      logical, intent(in) :: accepted
      integer(ik), intent(in) :: hits
      real(wp), intent(inout) :: radius

      if (.not. accepted) then
         radius = min(radius, MOST_SHRINK*pnorm)
      else if (hits > 0 .and. radius >= pnorm) then
         radius = max(radius, last_radius)
      end if
   end subroutine correct_radius

   !> How much the next model is distrusted near the bounds, after a step.  Only a step that was cut short, and whose
   !> reduction the model predicted well, earns trust: a good ratio alone does not, because linear parameters have it too.
   elemental subroutine update_distrust(ratio, accepted, hits, distrust)
      real(wp), intent(in) :: ratio
      logical, intent(in) :: accepted
      integer(ik), intent(in) :: hits
      real(wp), intent(inout) :: distrust

      if (.not. accepted) then
         distrust = 1
      else if (hits > 0) then
         distrust = max(min(1.0_wp, abs(1 - ratio)), MEMORY*distrust)
      end if
   end subroutine update_distrust

   !> Why the fit should end; 0: it should not.  Later reasons override earlier ones.
   pure function verdict(s) result(info)
      type(lm_state_t), intent(in) :: s
      integer(ik) :: info
      logical :: f_converged, x_converged

      info = 0
      f_converged = both_within(s, s%ftol) .and. .not. stalled(s)
      x_converged = s%radius <= s%xtol*s%xnorm .and. .not. stalled(s)
      if (f_converged) info = INFO_FTOL
      if (x_converged) info = INFO_XTOL
      if (f_converged .and. x_converged) info = INFO_FTOL_XTOL
      if (info /= 0) return
      if (s%nfev >= s%maxfev) info = INFO_MAXFEV
      if (both_within(s, EPS)) info = INFO_FTOL_TOO_SMALL
      if (s%radius <= EPS*s%xnorm) info = INFO_XTOL_TOO_SMALL
      if (s%gnorm <= EPS) info = INFO_GTOL_TOO_SMALL
   end function verdict

   !> With bounds: was the step limited by the radius alone, far from a minimum?  MINPACK
   !> calls that convergence, and without bounds so must this code.
   pure function stalled(s)
      type(lm_state_t), intent(in) :: s
      logical :: stalled

      stalled = s%bounded /= 0 .and. s%par > 0 .and. s%gnorm > STALL_COSINE
   end function stalled

   pure function both_within(s, tolerance) result(within)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(in) :: tolerance
      logical :: within

      within = abs(s%actual) <= tolerance .and. s%predicted <= tolerance &
         .and. 0.5_wp*s%ratio <= 1
   end function both_within

   ! ---------------------------------------------------------------------------
   ! Steps

   pure function proper(s)
      type(lm_state_t), intent(in) :: s
      logical :: proper

      proper = s%n > 0 .and. s%maxfev > 0 .and. s%ftol >= 0 .and. s%xtol >= 0 &
         .and. s%gtol >= 0 .and. s%factor > 0 &
         .and. (s%scaling == SCALE_COLUMNS .or. s%scaling == SCALE_USER) &
         .and. s%strategy >= STRATEGY_MINPACK .and. s%strategy <= STRATEGY_ROBUST
   end function proper

   !> Take ‖f(x₀)‖; if that is not finite and x₀ is on a bound, search for a start inside.
   pure subroutine take_first_norm(s, w, fnorm)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp), intent(in) :: fnorm

      if (.not. fnorm <= huge(fnorm)) then
         s%accepted = merge(1_ik, 0_ik, s%probe == PROBE_NONE)
         if (s%probe == PROBE_NONE) s%fnorm = fnorm
         call search_start(s, w)
         return
      end if
      if (s%bounded /= 0) then
         w(:, V_X) = w(:, V_TRIAL)
         w(:, V_LARGEST) = max(w(:, V_LARGEST), abs(w(:, V_X)))
      end if
      s%fnorm = fnorm
      s%start_norm = fnorm
      s%accepted = 1
      s%iteration = 1
      s%info = 0
      s%probe = PROBE_NONE
      s%tries = 0
      s%request = ASK_MODEL
   end subroutine take_first_norm

   !> D and the radius at the start of a fit.  With bounds neither depends on the units of a variable that is 0
   !> or on which f does not depend there.
   pure subroutine scale_first(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp) :: of_zeros

      of_zeros = merge(UNFELT, 1.0_wp, s%bounded /= 0)
      if (s%scaling == SCALE_COLUMNS) w(:, V_DIAG) = merge(of_zeros, w(:, V_COLNORM), w(:, V_COLNORM) == 0)
      call measure_point(s, w)
      s%radius = merge(restart_factor(s%restarts), s%factor, s%bounded == 0 .and. s%restarts > 0)*s%xnorm
      if (s%bounded /= 0 .and. s%scaling == SCALE_COLUMNS .and. .not. s%xnorm > NO_SIZE) &
         s%radius = FIRST_CHANGE*s%factor*s%fnorm
      if (.not. s%radius > 0) s%radius = s%factor
   end subroutine scale_first

   !> The gradient, and the largest cosine over the variables that the bounds do not hold.
   pure subroutine project_gradient(s, w, r, ldr, ipvt)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(in) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)

      s%gnorm = 0
      if (s%fnorm == 0) return
      w(:, V_SCRATCH) = w(:, V_QTF)/s%fnorm
      call transposed_times(s%n, r, ldr, ipvt, w(1, V_SCRATCH), w(1, V_SLOPE))
      call find_sides(w(:, V_X), w(:, V_LO), w(:, V_HI), w(:, V_SLOPE), w(:, V_SIDE))
      s%gnorm = projected_cosine(s%n, w(1, V_SLOPE), w(1, V_COLNORM), w(1, V_SIDE))
   end subroutine project_gradient

   !> The next trial within the radius.
   pure subroutine propose(s, w, r, ldr, ipvt, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      class(damped_solver_t), intent(in), optional :: solver

      if (s%bounded /= 0) then
         call near_box(w(:, V_X), w(:, V_LO), w(:, V_HI), s%distrust, &
            w(:, V_WARY), w(:, V_NEAR_LO), w(:, V_NEAR_HI))
         call bounded_step(s%n, r, ldr, ipvt, s%fnorm, s%radius, s%par, w, solver)
         call go_within_bounds(s%n, w, s%hits)
         call scaled_norm(s%n, w(1, V_DIAG), w(1, V_STEP), w(1, V_SCRATCH), s%pnorm)
      else
         call lmpar(s%n, r, ldr, ipvt, w(1, V_DIAG), w(1, V_QTF), s%radius, s%par, &
            w(1, V_STEP), s%pnorm, w(1, V_SCRATCH), w(1, V_SCRATCH + 1), w(1, V_SCRATCH + 2), &
            solver)
         w(:, V_STEP) = -w(:, V_STEP)
         w(:, V_TRIAL) = w(:, V_X) + w(:, V_STEP)
      end if
      if (s%hits > 0) s%touched = 1
      if (s%iteration == 1 .and. s%hits == 0) s%radius = min(s%radius, s%pnorm)
      s%request = ASK_NORM
      if (s%strategy /= STRATEGY_MINPACK) call bend_step(s, w, r, ldr, ipvt, solver)
   end subroutine propose

   elemental subroutine swap(a, b)
      real(wp), intent(inout) :: a, b
      real(wp) :: kept

      kept = a
      a = b
      b = kept
   end subroutine swap

   !> The predicted and the actual reduction of ‖f‖² by the step, and their ratio.
   pure subroutine measure_step(s, w, r, ldr, ipvt, trial_norm)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(in) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      real(wp), intent(in) :: trial_norm
      real(wp) :: linear, damping

      s%actual = actual_reduction(s%fnorm, trial_norm)
      call triangle_times(s%n, r, ldr, ipvt, w(1, V_STEP), w(1, V_SCRATCH))
      if (s%bounded /= 0) then
         call predict(s%n, w(1, V_SCRATCH), w(1, V_QTF), s%fnorm, s%predicted, s%slope)
      else
         linear = enorm(s%n, w(1, V_SCRATCH))/s%fnorm
         damping = (sqrt(s%par)*s%pnorm)/s%fnorm
         s%predicted = linear**2 + damping**2/0.5_wp
         s%slope = -(linear**2 + damping**2)
      end if
      s%ratio = reduction_ratio(s%actual, s%predicted)
   end subroutine measure_step

end module leastsq_lm_core
