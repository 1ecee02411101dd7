!> Probes: trials within bounds that are not steps of the model, and the return to the best of several fits.
!>
!> A start on a bound is moved inside; at the end variables are put onto bounds that are near; and a fit that
!> ends where f does not depend on some variable goes back, or searches the box, and begins again:
!> it may have run onto a bound at which f is flat (exp(-t/tau) at tau = 0).  The new end is kept if
!> it is better.  Where f or the model is not finite on a bound (s/(K + s) at K = 0 and s = 0) the fit
!> retreats inside.  (This package's own method, measured on the families of tests/parity/families.py.)
!>
!> "Unfelt" or "dead" is a variable on which f does not depend near x, to rounding.
!>
!> Public: leave_bounds, search_start, retreat, conclude, tell_probe, move, measure_point, dead, held,
!> keep_away, ask_probe.  Its data is n-sized.
module leastsq_probes
   use leastsq_kinds, only: wp, ik, ASK_DONE, ASK_NORM, ASK_MODEL, INFO_FTOL, INFO_GTOL, INFO_MAXFEV, &
      INFO_NOT_FINITE, STRATEGY_MINPACK
   use leastsq_curvature, only: remember_past
   use leastsq_lm_state, only: lm_state_t, V_X, V_TRIAL, V_STEP, V_DIAG, V_COLNORM, V_SCRATCH, V_LO, V_HI, &
      V_SLOPE, V_LARGEST, V_FELT, V_LEFT, V_BEST, V_WARY, V_RHS, PROBE_NONE, PROBE_START, PROBE_END, &
      PROBE_BACK, PROBE_SEARCH, PROBE_RETURN, PROBE_RETREAT, FELT_NOWHERE, FELT_BEFORE, FELT_HERE, &
      FEARLESS, WARY, BURNT, C_BEST, PAST_NONE, curvature_base
   use leastsq_products, only: scaled_norm
   implicit none (type, external)
   private
   public :: leave_bounds, search_start, retreat, conclude, tell_probe, move, measure_point, dead, held, &
      keep_away, ask_probe

   real(wp), parameter :: START_INSIDE = 0.2_wp   !< a start on a bound moves inside by this fraction of the box
   real(wp), parameter :: FAR_BOX = 1.0e3_wp      !< a box this many times wider than the model's scale says nothing
   real(wp), parameter :: STATIONARY = 1.0e-3_wp  !< largest cosine at a start that counts as a minimum
   real(wp), parameter :: BACK_PART = 0.1_wp      !< fraction of the step that was too long
   real(wp), parameter :: FELT = 1.0e-8_wp        !< least relative change of ‖f‖ by a variable on which f depends
   real(wp), parameter :: HELD_COSINE = 1.0e-7_wp !< cosines up to this may be errors of a difference Jacobian
   real(wp), parameter :: ENOUGH = 0.9_wp         !< the search ends at a point with this fraction of ‖f‖
   real(wp), parameter :: DECADES = 6             !< width of the search, to either side of 1, at most
   real(wp), parameter :: DECADES_MORE = 0.5_wp   !< growth of this width with each trial
   real(wp), parameter :: BOX_DECADES = 4         !< width of the search where the box or |x| gives a size
   integer(ik), parameter :: MOST_TRIES = 40      !< limit on the trials of a search
   integer(ik), parameter :: MOST_STARTS = 10     !< limit on the trials of a search for a start at which f is finite
   real(wp), parameter :: RETREAT_PART = 0.5_wp   !< fraction of the step onto the bound that is taken back
   integer(ik), parameter :: MOST_RESTARTS = 2
   integer, parameter :: ROOT_ROUNDS = 30

contains

   !> After the model at x₀: variables exactly on a bound move inside, unless x₀ is already a minimum.
   pure subroutine leave_bounds(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)

      if (s%gnorm <= STATIONARY .and. .not. any(dead(w(:, V_COLNORM), w(:, V_LARGEST), w(:, V_LO), &
         w(:, V_HI), s%fnorm))) return
      w(:, V_TRIAL) = w(:, V_X)
      call go_inside(w(:, V_LO), w(:, V_HI), w(:, V_COLNORM), s%fnorm, w(:, V_TRIAL))
      if (any(w(:, V_TRIAL) /= w(:, V_X)) .and. s%nfev < s%maxfev) call ask_probe(s, w, PROBE_START)
   end subroutine leave_bounds

   !> f or the model is not finite at x₀, or at the last trial of this search: try a point inside the bounds
   !> that x₀ is on.
   pure subroutine search_start(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)

      s%info = INFO_NOT_FINITE
      s%request = ASK_DONE
      if (s%bounded == 0) return
      if (s%probe == PROBE_NONE) then
         s%tries = 0
         w(:, V_BEST) = w(:, V_X)
         w(:, V_COLNORM) = 0
         call keep_away(w(:, V_X), 1.0_wp, w(:, V_LO), w(:, V_HI), BURNT, w(:, V_WARY))
      end if
      s%probe = PROBE_NONE
      if (s%tries >= MOST_STARTS .or. s%nfev >= s%maxfev) return
      call search_inside(s, w, PROBE_RETREAT)
      if (all(w(:, V_TRIAL) == w(:, V_X))) then
         s%probe = PROBE_NONE
         s%info = INFO_NOT_FINITE
         s%request = ASK_DONE
      end if
   end subroutine search_start

   !> The model at x is not finite: step back from the bounds that the last step reached, or end.
   pure subroutine retreat(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)

      s%info = INFO_NOT_FINITE
      if (s%bounded /= 0 .and. s%probe /= PROBE_RETURN .and. s%nfev < s%maxfev) then
         s%probe = PROBE_NONE
         if (s%njev == 1) then
            call search_start(s, w)
            return
         end if
         call keep_away(w(:, V_X), w(:, V_STEP), w(:, V_LO), w(:, V_HI), BURNT, w(:, V_WARY))
         w(:, V_TRIAL) = w(:, V_X)
         where (on_bound(w(:, V_X), w(:, V_LO), w(:, V_HI))) &
            w(:, V_TRIAL) = min(max(w(:, V_X) - RETREAT_PART*w(:, V_STEP), w(:, V_LO)), w(:, V_HI))
         if (any(w(:, V_TRIAL) /= w(:, V_X))) then
            call ask_probe(s, w, PROBE_RETREAT)
            return
         end if
      end if
      call conclude(s, w)
   end subroutine retreat

   !> End the fit for the reason s%info; with bounds, unless a probe is due.
   pure subroutine conclude(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)

      s%request = ASK_DONE
      if (s%bounded /= 0 .and. success(s%info)) then
         if (s%nfev < s%maxfev) call reach_bounds(s, w)
         if (s%request /= ASK_DONE) return
         call go_back(s, w)
         if (s%request /= ASK_DONE) return
      end if
      call keep_best(s, w)
   end subroutine conclude

   !> Take ‖f‖ at a trial that is a probe.
   pure subroutine tell_probe(s, w, fnorm)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp), intent(in) :: fnorm
      integer(ik) :: probe
      real(wp) :: gain
      logical :: finite

      finite = fnorm <= huge(fnorm)
      probe = s%probe
      s%probe = PROBE_NONE
      s%accepted = 0
      s%info = s%pending
      s%request = ASK_DONE
      select case (probe)
      case (PROBE_START)
         if (finite) then
            call begin_again(s, w, fnorm)
         else
            s%request = ASK_MODEL
         end if
      case (PROBE_END)
         if (.not. finite) then
            call learn_from_end(s%n, w)
            s%info = s%pending
            if (s%nfev < s%maxfev) call reach_bounds(s, w)
            if (s%request /= ASK_DONE) return
         end if
         gain = 0
         if (fnorm <= s%fnorm) then
            gain = 1 - (fnorm/s%fnorm)**2
            call move(s, w, fnorm)
         end if
         if (gain > s%ftol) then
            s%info = 0
            s%request = ASK_MODEL
            return
         end if
         call go_back(s, w)
         if (s%request == ASK_DONE) call keep_best(s, w)
      case (PROBE_BACK)
         if (finite) then
            call begin_again(s, w, fnorm)
         else
            call keep_best(s, w)
         end if
      case (PROBE_SEARCH)
         call go_on_searching(s, w, fnorm)
      case (PROBE_RETREAT)
         if (finite) then
            s%tries = 0
            call begin_again(s, w, fnorm)
         else if (s%njev == 1) then
            s%probe = PROBE_RETREAT
            call search_start(s, w)
         else
            call conclude(s, w)
         end if
      case (PROBE_RETURN)
         s%probe = PROBE_RETURN
         call move(s, w, fnorm)
         if (s%info /= INFO_MAXFEV) then
            s%info = 0
            s%request = ASK_MODEL
         end if
      end select
   end subroutine tell_probe

   !> Move x to the trial.
   pure subroutine move(s, w, fnorm)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp), intent(in) :: fnorm

      if (s%strategy /= STRATEGY_MINPACK) call remember_past(s, w)
      if (s%felt == FELT_HERE) then
         w(:, V_LEFT) = w(:, V_TRIAL) - w(:, V_X)
         s%felt = FELT_BEFORE
      end if
      w(:, V_X) = w(:, V_TRIAL)
      if (s%bounded /= 0) w(:, V_LARGEST) = max(w(:, V_LARGEST), abs(w(:, V_X)))
      call measure_point(s, w)
      s%fnorm = fnorm
      s%iteration = s%iteration + 1
      s%accepted = 1
   end subroutine move

   !> xnorm = ‖D x‖, without fixed variables.
   pure subroutine measure_point(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)

      if (s%bounded /= 0) then
         w(:, V_RHS) = merge(w(:, V_X), 0.0_wp, w(:, V_LO) < w(:, V_HI))
         call scaled_norm(s%n, w(1, V_DIAG), w(1, V_RHS), w(1, V_SCRATCH), s%xnorm)
      else
         call scaled_norm(s%n, w(1, V_DIAG), w(1, V_X), w(1, V_SCRATCH), s%xnorm)
      end if
   end subroutine measure_point

   !> Is a variable free to move, and f independent of it near x?
   elemental function dead(colnorm, largest, lo, hi, fnorm)
      real(wp), intent(in) :: colnorm             !< norm of J's column
      real(wp), intent(in) :: largest             !< largest |x| so far
      real(wp), intent(in) :: lo, hi, fnorm
      logical :: dead
      real(wp) :: size

      size = largest
      if (size == 0 .and. hi - lo <= huge(hi)) size = hi - lo
      dead = lo < hi .and. (colnorm == 0 .or. (size > 0 .and. colnorm*size <= FELT*fnorm))
   end function dead

   !> The multiplier of a variable at a bound, by the last model: the slope of ‖f‖²/2 along the variable if that
   !> holds it there; 0 if the slope is rounding or the variable is free; NaN if f does not depend on it.
   elemental function held(x, lo, hi, slope, colnorm, largest, fnorm) result(multiplier)
      real(wp), intent(in) :: x, lo, hi
      real(wp), intent(in) :: slope               !< Jᵀf/‖f‖
      real(wp), intent(in) :: colnorm, largest, fnorm
      real(wp) :: multiplier

      multiplier = 0
      if (.not. lo < hi .or. (lo < x .and. x < hi)) return
      if (dead(colnorm, largest, lo, hi, fnorm)) then
         multiplier = (lo - lo)/(colnorm - colnorm)
      else if (merge(slope, -slope, x == lo) > HELD_COSINE*colnorm) then
         multiplier = slope*fnorm
      end if
   end function held

   ! ---------------------------------------------------------------------------
   ! Where probes go

   !> Ask for ‖f‖ at the trial.
   pure subroutine ask_probe(s, w, probe)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: probe

      s%probe = probe
      s%pending = s%info
      s%info = 0
      s%request = ASK_NORM
      s%hits = 0
      w(:, V_STEP) = w(:, V_TRIAL) - w(:, V_X)
   end subroutine ask_probe

   !> Put variables onto near bounds, beyond which the model would take them, all at once.
   pure subroutine reach_bounds(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp) :: bound, way
      integer(ik) :: j

      if (s%fnorm == 0) return
      w(:, V_TRIAL) = w(:, V_X)
      do j = 1, s%n
         if (w(j, V_SLOPE) == 0) cycle
         bound = merge(w(j, V_LO), w(j, V_HI), w(j, V_SLOPE) > 0)
         if (w(j, V_WARY) == merge(-BURNT, BURNT, w(j, V_SLOPE) > 0)) cycle
         way = abs(bound - w(j, V_X))
         if (way*w(j, V_COLNORM)**2 <= abs(w(j, V_SLOPE))*s%fnorm) w(j, V_TRIAL) = bound
      end do
      if (any(w(:, V_TRIAL) /= w(:, V_X))) call ask_probe(s, w, PROBE_END)
   end subroutine reach_bounds

   !> f is not finite with several variables on their bounds.  The ones already wary of their bound are to blame;
   !> if there are none, all of them may be.
   pure subroutine learn_from_end(n, w)
      integer(ik), intent(in) :: n
      real(wp), intent(inout) :: w(n, *)
      integer(ik) :: j
      logical :: known

      known = .false.
      do j = 1, n
         known = known .or. (w(j, V_STEP) /= 0 .and. w(j, V_WARY) /= FEARLESS)
      end do
      do j = 1, n
         if (known .and. w(j, V_WARY) == FEARLESS) cycle
         call keep_away(w(j, V_TRIAL), w(j, V_STEP), w(j, V_LO), w(j, V_HI), BURNT, w(j, V_WARY))
      end do
   end subroutine learn_from_end

   !> f or the model was not finite at x: avoid the bounds that the step reached.
   elemental subroutine keep_away(x, step, lo, hi, how, wary)
      real(wp), intent(in) :: x, lo, hi
      real(wp), intent(in) :: step                !< 0: the variable did not move
      real(wp), intent(in) :: how                 !< WARY or BURNT
      real(wp), intent(inout) :: wary

      if (step == 0 .or. lo < x .and. x < hi .or. .not. lo < hi) return
      if (how >= abs(wary)) wary = merge(-how, how, x <= lo)
   end subroutine keep_away

   !> If f does not depend on some variable: begin again from the last point at which f depended on all of them,
   !> with a small part of the step that left it; if there was no such point, search the box for one.
   pure subroutine go_back(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      logical :: unfelt
      integer(ik) :: j

      if (s%restarts >= MOST_RESTARTS) return
      unfelt = .false.
      do j = 1, s%n
         if (.not. dead(w(j, V_COLNORM), w(j, V_LARGEST), w(j, V_LO), w(j, V_HI), s%fnorm)) cycle
         unfelt = unfelt .or. s%felt /= FELT_NOWHERE .or. on_bound(w(j, V_X), w(j, V_LO), w(j, V_HI))
      end do
      if (.not. unfelt) return
      if (s%felt == FELT_NOWHERE .and. s%tries > 0) return
      if (s%nfev >= s%maxfev) then
         s%info = INFO_MAXFEV
         return
      end if
      if (s%restarts == 0 .or. s%fnorm < s%best_norm) then
         w(:, V_BEST) = w(:, V_X)
         s%best_norm = s%fnorm
         s%best_info = s%info
      end if
      s%restarts = s%restarts + 1
      if (s%felt /= FELT_NOWHERE) then
         w(:, V_TRIAL) = min(max(w(:, V_FELT) + BACK_PART*w(:, V_LEFT), w(:, V_LO)), w(:, V_HI))
         call ask_probe(s, w, PROBE_BACK)
      else
         s%tried_norm = huge(s%tried_norm)
         s%tries = 0
         call search_inside(s, w, PROBE_SEARCH)
      end if
   end subroutine go_back

   !> The next trial of the search: variables at bounds that do not hold them move inside.  The first trial moves
   !> them by a fraction of the box, or by 1 if nothing gives a size; later ones by distances spread evenly in
   !> the logarithm (an additive recurrence whose ratios are powers of the root of rᵏ⁺¹ = r + 1, k variables).
   pure subroutine search_inside(s, w, probe)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: probe            !< PROBE_SEARCH, or PROBE_RETREAT at the start
      real(wp) :: size, inside, root, part
      integer(ik) :: j, place, places
      integer :: round

      places = 0
      do j = 1, s%n
         if (searched(s, w, j)) places = places + 1
      end do
      root = 2
      do round = 1, ROOT_ROUNDS
         root = (1 + root)**(1/real(places + 1, wp))
      end do
      w(:, V_TRIAL) = w(:, V_BEST)
      place = 0
      do j = 1, s%n
         if (.not. searched(s, w, j)) cycle
         place = place + 1
         part = modulo(real(s%tries, wp)*root**(-real(place, wp)), 1.0_wp)
         size = w(j, V_HI) - w(j, V_LO)
         if (size > huge(size)) size = w(j, V_LARGEST)
         if (size > 0) then
            inside = size*10.0_wp**(-BOX_DECADES*part)
            if (s%tries == 0) inside = size*START_INSIDE
         else
            inside = 10.0_wp**(min(DECADES, 1 + DECADES_MORE*s%tries)*(2*part - 1))
            if (s%tries == 0) inside = 1
         end if
         if (w(j, V_BEST) == w(j, V_LO)) then
            w(j, V_TRIAL) = min(w(j, V_LO) + inside, w(j, V_HI))
         else
            w(j, V_TRIAL) = max(w(j, V_HI) - inside, w(j, V_LO))
         end if
      end do
      s%tries = s%tries + 1
      call ask_probe(s, w, probe)
   end subroutine search_inside

   !> Does the search move variable j?  Yes if it is on a bound that does not hold it, whether or not f depends on
   !> it: f may be independent of one variable because of the value of another (k in 1/(1 + (s/k)ʰ) at h = 0).
   pure function searched(s, w, j)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(in) :: w(s%n, *)
      integer(ik), intent(in) :: j
      logical :: searched

      searched = on_bound(w(j, V_BEST), w(j, V_LO), w(j, V_HI)) .and. w(j, V_LO) < w(j, V_HI) .and. &
         (dead(w(j, V_COLNORM), w(j, V_LARGEST), w(j, V_LO), w(j, V_HI), s%best_norm) &
         .or. .not. abs(w(j, V_SLOPE)) > HELD_COSINE*w(j, V_COLNORM))
   end function searched

   !> Take ‖f‖ at a trial of the search.  A trial does not count if ‖f‖ is the same as at the bound.
   pure subroutine go_on_searching(s, w, fnorm)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp), intent(in) :: fnorm

      if (fnorm < s%tried_norm .and. abs(fnorm - s%best_norm) > FELT*s%best_norm) then
         s%tried_norm = fnorm
         w(:, V_LEFT) = w(:, V_TRIAL)
      end if
      if (fnorm <= ENOUGH*s%best_norm) then
         call begin_again(s, w, fnorm)
      else if (s%nfev >= s%maxfev) then
         s%info = INFO_MAXFEV
      else if (s%tries < MOST_TRIES) then
         call search_inside(s, w, PROBE_SEARCH)
      else if (s%tried_norm <= 0.5_wp*huge(fnorm)) then
         w(:, V_TRIAL) = w(:, V_LEFT)
         call ask_probe(s, w, PROBE_BACK)
      end if
   end subroutine go_on_searching

   !> Begin a new fit at the trial; the better of the two ends will be kept.
   pure subroutine begin_again(s, w, fnorm)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      real(wp), intent(in) :: fnorm

      call move(s, w, fnorm)
      if (s%bounded == 0) then      ! a fit like the first
         s%past = PAST_NONE
         s%iteration = 1
      end if
      s%probe = PROBE_BACK
      s%distrust = 1
      s%par = 0
      s%felt = FELT_NOWHERE
      s%info = 0
      s%request = ASK_MODEL
   end subroutine begin_again

   !> At the end of a fit that began again: return to the best earlier end, if that is better.
   pure subroutine keep_best(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik) :: best

      if (s%restarts == 0) return
      if (s%fnorm <= s%best_norm .and. s%info /= INFO_NOT_FINITE) return
      if (s%info /= INFO_MAXFEV .or. s%bounded == 0) s%info = s%best_info
      best = merge(int(V_BEST, ik), curvature_base(s%n, s%bounded) + C_BEST, s%bounded /= 0)
      if (all(w(:, V_X) == w(:, best))) return
      w(:, V_TRIAL) = w(:, best)
      call ask_probe(s, w, PROBE_RETURN)
   end subroutine keep_best

   ! ---------------------------------------------------------------------------

   !> Move x from exactly on a bound inside, by a fraction of the box, or of |x| if the box is open; by no more than
   !> what would reduce f to zero by the model, if |x| or a very wide box would lead further.
   elemental subroutine go_inside(lo, hi, colnorm, fnorm, x)
      real(wp), intent(in) :: lo, hi, colnorm, fnorm
      real(wp), intent(inout) :: x
      real(wp) :: inside
      logical :: in_box

      in_box = hi - lo <= huge(x)
      inside = START_INSIDE*merge(hi - lo, abs(x), in_box)
      if (inside*colnorm > merge(FAR_BOX, 1.0_wp, in_box)*fnorm) inside = fnorm/colnorm
      if (x == lo) then
         x = min(lo + inside, hi)
      else if (x == hi) then
         x = max(hi - inside, lo)
      end if
   end subroutine go_inside

   elemental function on_bound(x, lo, hi) result(on)
      real(wp), intent(in) :: x, lo, hi
      logical :: on

      on = x <= lo .or. x >= hi
   end function on_bound

   elemental function success(info)
      integer(ik), intent(in) :: info
      logical :: success

      success = info >= INFO_FTOL .and. info <= INFO_GTOL
   end function success

end module leastsq_probes
