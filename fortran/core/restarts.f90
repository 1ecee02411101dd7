!> Restarts of the robust strategy, for fits without bounds.
!>
!> If a fit ends although f is not zero, and R is nearly singular or f is not orthogonal to J, a parameter has
!> probably run away: the fit starts again from x₀ with a smaller first radius, and the best of all ends
!> counts.  (This package's own method: docs/strategies.md.  For fits with bounds see probes.f90.)
!>
!> Public: finish, restart_factor.  Its data is n-sized.
module leastsq_restarts
   use leastsq_kinds, only: wp, ik, INFO_MAXFEV, STRATEGY_ROBUST
   use leastsq_lm_state, only: lm_state_t, V_X, V_TRIAL, V_COLNORM, C_LARGEST, C_START, C_BEST, PROBE_NONE, &
      PROBE_BACK, curvature_base
   use leastsq_probes, only: ask_probe, conclude
   implicit none (type, external)
   private
   public :: finish, restart_factor

   real(wp), parameter :: RESTART_FACTORS(2) = [0.1_wp, 0.01_wp]   !< first radii in units of ‖D x₀‖
   real(wp), parameter :: CONDITION_MOST = 1.0e4_wp    !< limit of a column's norm relative to its diagonal element in R
   real(wp), parameter :: COSINE_MOST = 1.0e-2_wp      !< limit of the cosine between f and a column of J
   real(wp), parameter :: ZERO_RESIDUAL = 1.0e-5_wp    !< ‖f‖/‖f(x₀)‖ that counts as zero: no better fit can be found

contains

   !> End the fit for the reason s%info, unless the robust strategy starts again.
   pure subroutine finish(s, w, r, ldr, ipvt)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(in) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)

      if (s%strategy == STRATEGY_ROBUST .and. s%bounded == 0) then
         if (ran_away(s, w, r, ldr, ipvt)) call start_again(s, w)
         if (s%probe /= PROBE_NONE) return
      end if
      call conclude(s, w)
   end subroutine finish

   !> Has a parameter probably run away?  Yes if f is not zero, and R is nearly singular or f is not orthogonal
   !> to J.
   pure function ran_away(s, w, r, ldr, ipvt) result(ran)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(in) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(in) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      logical :: ran
      integer(ik) :: j

      ran = .false.
      if (s%info == INFO_MAXFEV .or. .not. s%fnorm > ZERO_RESIDUAL*s%start_norm) return
      ran = s%gnorm > COSINE_MOST
      do j = 1, s%n
         ran = ran .or. w(ipvt(j), V_COLNORM) > CONDITION_MOST*abs(r(j, j))
      end do
   end function ran_away

   !> Start again from x₀, if there is a radius left to try.
   pure subroutine start_again(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik) :: c

      if (s%restarts >= size(RESTART_FACTORS) .or. s%nfev >= s%maxfev) return
      c = curvature_base(s%n, s%bounded)
      if (s%restarts == 0 .or. s%fnorm < s%best_norm) then
         w(:, c + C_BEST) = w(:, V_X)
         s%best_norm = s%fnorm
         s%best_info = s%info
      end if
      s%restarts = s%restarts + 1
      w(:, V_TRIAL) = w(:, c + C_START)
      w(:, c + C_LARGEST) = abs(w(:, V_TRIAL))
      call ask_probe(s, w, PROBE_BACK)
   end subroutine start_again

   !> The first radius after a restart, in units of ‖D x₀‖.
   elemental function restart_factor(restarts) result(factor)
      integer(ik), intent(in) :: restarts
      real(wp) :: factor

      factor = RESTART_FACTORS(min(max(restarts, 1_ik), size(RESTART_FACTORS, kind=ik)))
   end function restart_factor

end module leastsq_restarts
