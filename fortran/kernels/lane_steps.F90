#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> The Levenberg–Marquardt steps of several fits at once, one in each vector lane.
!>
!> The events of core/lm_core.f90 (with its lmpar, qrsolv and products) for fits without bounds
!> and with MINPACK's strategy.  Each lane performs the operations that lm_core performs, in the
!> same order, and nothing is contracted, so each fit gets MINPACK's bits.  Where lanes
!> differ, all of them compute both branches, and each selects its own result.
!>
!> A lane that is not ordinary (a value is not finite, R is singular, a norm must be guarded) is left
!> unchanged, with `told` = 0, for lm_core, which also explains the policy.
!>
!> (More than 500 lines in one file, because kernels share no modules, and events and steps share helpers.)
!>
!> Public: lsq_lanes_..._<ISA>, for C.  The data is n-sized; of J's factorization only R is read.
module TAGGED(leastsq_lane_steps)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   implicit none (type, external)
   private
   public :: TAGGED(lsq_lanes_tell_norm), TAGGED(lsq_lanes_tell_model), TAGGED(lsq_lanes_covar)
   public :: lanes_settings_t, lanes_state_t

   !> Fits at once: LSQ_LANES of core.h.
   integer, parameter :: LANES = 8

   !> The settings that all fits share: the first fields of lm_state_t.
   type, bind(c) :: lanes_settings_t
      integer(ik) :: n, maxfev, scaling
      real(wp) :: ftol, xtol, gtol, factor
   end type lanes_settings_t

   !> The fields of lm_state_t that the algorithm sets, each for all lanes: lsq_lanes_state of core.h.
   type, bind(c) :: lanes_state_t
      integer(ik), dimension(LANES) :: request, info, accepted, nfev, njev, iteration
      real(wp), dimension(LANES) :: fnorm, xnorm, gnorm, radius, par, pnorm, actual, predicted, slope, ratio
   end type lanes_state_t

   !> Columns of the vectors: those of lm_state.f90, then the following.
   integer, parameter :: V_X = 1, V_TRIAL = 2, V_STEP = 3, V_DIAG = 4, V_COLNORM = 5, V_QTF = 6
   integer, parameter :: V_PIVOTED = 7            !< the step in the order of the pivots
   integer, parameter :: V_SCRATCH = 8
   integer, parameter :: SCRATCH_VECTORS = 7
   integer, parameter :: VECTORS = V_SCRATCH + SCRATCH_VECTORS - 1     !< LSQ_LANES_VECTORS of core.h

   ! As in kinds.f90, enorm.f90, lm_core.f90 and lmpar.f90.
   integer(ik), parameter :: ASK_DONE = 0, ASK_NORM = 1, ASK_MODEL = 2, SCALE_COLUMNS = 1
   integer(ik), parameter :: INFO_FTOL = 1, INFO_XTOL = 2, INFO_FTOL_XTOL = 3, INFO_GTOL = 4, INFO_MAXFEV = 5
   integer(ik), parameter :: INFO_FTOL_TOO_SMALL = 6, INFO_XTOL_TOO_SMALL = 7, INFO_GTOL_TOO_SMALL = 8
   real(wp), parameter :: EPS = epsilon(1.0_wp), DWARF = tiny(1.0_wp)
   real(wp), parameter :: SMALLEST_SQUARABLE = 3.834e-20_wp, LARGEST_SQUARABLE = 1.304e19_wp
   real(wp), parameter :: LEAVES_SMALL_OUT = 1.0e-22_wp    !< as in lanes.F90
   real(wp), parameter :: RATIO_ACCEPT = 1.0e-4_wp, RATIO_POOR = 0.25_wp, RATIO_GOOD = 0.75_wp
   real(wp), parameter :: LEAST_SHRINK = 0.1_wp, MOST_SHRINK = 0.5_wp, NORM_BLOW_UP = 0.1_wp
   real(wp), parameter :: RADIUS_TOLERANCE = 0.1_wp, LEAST_FRACTION_OF_UPPER = 0.001_wp
   integer, parameter :: MOST_NEWTON_STEPS = 10

contains

   !> Tell ‖f(trial)‖ of the `wanted` lanes, which took one evaluation each.
   pure subroutine TAGGED(lsq_lanes_tell_norm)(set, wanted, norms, s, w, r, ipvt, lower, told) bind(c)
      type(lanes_settings_t), intent(in) :: set
      integer(ik), intent(in) :: wanted(LANES)
      real(wp), intent(in) :: norms(LANES)
      type(lanes_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(LANES, set%n, VECTORS)
      real(wp), intent(in) :: r(LANES, set%n, set%n)      !< upper triangle: R
      integer(ik), intent(in) :: ipvt(LANES, set%n)
      real(wp), intent(inout) :: lower(LANES, set%n, set%n)   !< scratch
      integer(ik), intent(inout) :: told(LANES)   !< 1: done here, 0: left to lm_core
      real(wp), dimension(LANES) :: actual, predicted, slope, ratio, linear, xnorm, radius, par, length
      real(wp) :: damping, shrink, grows
      integer(ik), dimension(LANES) :: odd, odd_point, accepted, rejected, info
      integer(ik) :: n, q, j, first

      n = set%n
      if (any(wanted /= 0 .and. s%iteration /= 0)) then
         ! The reduction that the model predicted, and the actual one
         call triangle_times(n, r, w(1, 1, V_PIVOTED), w(1, 1, V_SCRATCH))
         odd = 0
         call find_norms(n, w(1, 1, V_SCRATCH), linear, odd)
         !$omp simd private(damping, shrink, grows)
         do q = 1, LANES
            linear(q) = linear(q)/s%fnorm(q)
            damping = (sqrt(s%par(q))*s%pnorm(q))/s%fnorm(q)
            actual(q) = merge(1 - (norms(q)/s%fnorm(q))**2, -1.0_wp, NORM_BLOW_UP*norms(q) < s%fnorm(q))
            predicted(q) = linear(q)**2 + damping**2/0.5_wp
            slope(q) = -(linear(q)**2 + damping**2)
            ratio(q) = merge(actual(q)/predicted(q), 0.0_wp, predicted(q) /= 0)
            odd(q) = merge(odd(q), 1_ik, norms(q) <= huge(1.0_wp))
            odd(q) = merge(odd(q), 1_ik, predicted(q) <= huge(1.0_wp))
            odd(q) = merge(odd(q), 1_ik, s%iteration(q) > 0)

            shrink = merge(0.5_wp*slope(q)/(slope(q) + 0.5_wp*actual(q)), MOST_SHRINK, actual(q) < 0)
            shrink = merge(LEAST_SHRINK, shrink, shrink < LEAST_SHRINK)
            shrink = merge(LEAST_SHRINK, shrink, NORM_BLOW_UP*norms(q) >= s%fnorm(q))
            grows = merge(1.0_wp, ratio(q), s%par(q) == 0)      ! if the step was not damped, or was good
            radius(q) = merge(s%pnorm(q)/0.5_wp, s%radius(q), grows >= RATIO_GOOD)
            radius(q) = merge(radius(q), shrink*min(s%radius(q), s%pnorm(q)/0.1_wp), ratio(q) > RATIO_POOR)
            par(q) = merge(0.5_wp*s%par(q), s%par(q), grows >= RATIO_GOOD)
            par(q) = merge(par(q), s%par(q)/shrink, ratio(q) > RATIO_POOR)
            accepted(q) = merge(1_ik, 0_ik, ratio(q) >= RATIO_ACCEPT)
         end do

         ! Accept or reject the trial, and continue
         call scale(n, w(1, 1, V_DIAG), w(1, 1, V_TRIAL), w(1, 1, V_SCRATCH))
         odd_point = 0
         call find_norms(n, w(1, 1, V_SCRATCH), xnorm, odd_point)
         !$omp simd
         do q = 1, LANES
            xnorm(q) = merge(xnorm(q), s%xnorm(q), accepted(q) == 1)
         end do
         call judge(set, s%nfev, s%gnorm, actual, predicted, ratio, radius, xnorm, info)
         !$omp simd
         do q = 1, LANES
            odd(q) = odd(q) + accepted(q)*odd_point(q)
            told(q) = merge(1_ik, 0_ik, odd(q) == 0)*wanted(q)
            rejected(q) = merge(1_ik, 0_ik, info(q) == 0)*told(q)*(1 - accepted(q))
         end do
         length = s%pnorm
         if (sum(rejected) > 0) then
            call propose(n, rejected, radius, par, length, w, r, ipvt, lower, odd)
            !$omp simd private(first)
            do q = 1, LANES
               told(q) = merge(told(q), 0_ik, odd(q) == 0)
               rejected(q) = merge(rejected(q), 0_ik, odd(q) == 0)
               first = merge(rejected(q), 0_ik, s%iteration(q) == 1)
               radius(q) = merge(min(radius(q), length(q)), radius(q), first == 1)
            end do
            call commit_step(n, rejected, ipvt, w)
         end if

         !$omp simd
         do q = 1, LANES
            accepted(q) = accepted(q)*told(q)
            s%accepted(q) = merge(accepted(q), s%accepted(q), told(q) == 1)
            s%nfev(q) = s%nfev(q) + told(q)
            s%iteration(q) = s%iteration(q) + accepted(q)
            s%info(q) = merge(info(q), s%info(q), told(q) == 1)
            info(q) = merge(ASK_DONE, ASK_NORM + accepted(q), info(q) /= 0)
            s%request(q) = merge(info(q), s%request(q), told(q) == 1)
            s%fnorm(q) = merge(norms(q), s%fnorm(q), accepted(q) == 1)
            s%xnorm(q) = merge(xnorm(q), s%xnorm(q), accepted(q) == 1)
            s%radius(q) = merge(radius(q), s%radius(q), told(q) == 1)
            s%par(q) = merge(par(q), s%par(q), told(q) == 1)
            s%pnorm(q) = merge(length(q), s%pnorm(q), rejected(q) == 1)
            s%actual(q) = merge(actual(q), s%actual(q), told(q) == 1)
            s%predicted(q) = merge(predicted(q), s%predicted(q), told(q) == 1)
            s%slope(q) = merge(slope(q), s%slope(q), told(q) == 1)
            s%ratio(q) = merge(ratio(q), s%ratio(q), told(q) == 1)
         end do
         do j = 1, n
            !$omp simd
            do q = 1, LANES
               w(q, j, V_X) = merge(w(q, j, V_TRIAL), w(q, j, V_X), accepted(q) == 1)
            end do
         end do
      else
         told = 0
      end if

      do q = 1, LANES                             ! ‖f(x₀)‖
         if (wanted(q) == 0 .or. s%iteration(q) /= 0 .or. .not. norms(q) <= huge(1.0_wp)) cycle
         s%fnorm(q) = norms(q)
         s%accepted(q) = 1
         s%nfev(q) = s%nfev(q) + 1
         s%iteration(q) = 1
         s%info(q) = 0
         s%request(q) = ASK_MODEL
         told(q) = 1
      end do
   end subroutine TAGGED(lsq_lanes_tell_norm)

   !> Tell the factorization of J of the `wanted` lanes, as lsq_lanes_factor left it, which took `cost`
   !> evaluations.  R, ipvt, Q'f and column norms of all plain lanes are copied.
   pure subroutine TAGGED(lsq_lanes_tell_model)(set, wanted, cost, m, a, b, came, factored, rdiag, acnorm, s, w, r, &
      ipvt, lower, told) bind(c)
      type(lanes_settings_t), intent(in) :: set
      integer(ik), intent(in) :: wanted(LANES)    !< and plain
      integer(ik), intent(in) :: cost(LANES)
      integer(ik), intent(in), value :: m
      real(wp), intent(in) :: a(LANES, m, set%n), b(LANES, m)
      integer(ik), intent(in) :: came(LANES, set%n)       !< ipvt at lsq_lanes_factor's entry
      integer(ik), intent(in) :: factored(LANES, set%n)   !< and its ipvt
      real(wp), intent(in) :: rdiag(LANES, set%n), acnorm(LANES, set%n)
      type(lanes_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(LANES, set%n, VECTORS)
      real(wp), intent(inout) :: r(LANES, set%n, set%n)
      integer(ik), intent(inout) :: ipvt(LANES, set%n)
      real(wp), intent(inout) :: lower(LANES, set%n, set%n)   !< scratch
      integer(ik), intent(inout) :: told(LANES)
      real(wp), dimension(LANES) :: gnorm, xnorm, radius, par, length
      real(wp) :: start
      integer(ik), dimension(LANES) :: odd, odd_point, first, going
      integer(ik) :: n, i, j, q

      n = set%n
      do j = 1, n
         do i = 1, j - 1
            call take(wanted, a(1, i, j), r(1, i, j))
         end do
         call take(wanted, rdiag(1, j), r(1, j, j))
         call take(wanted, b(1, j), w(1, j, V_QTF))
         !$omp simd
         do q = 1, LANES
            ipvt(q, j) = merge(factored(q, j), ipvt(q, j), wanted(q) == 1)
         end do
         do q = 1, LANES                          ! the others' are not used
            w(q, came(q, j), V_COLNORM) = acnorm(q, j)
         end do
      end do

      ! D and the radius at the start of a fit
      odd = 0
      first = merge(1_ik, 0_ik, s%njev == 0)
      xnorm = s%xnorm
      radius = s%radius
      if (any(wanted /= 0 .and. first == 1)) then
         if (set%scaling == SCALE_COLUMNS) then
            do j = 1, n
               call take(wanted*first, w(1, j, V_COLNORM), w(1, j, V_DIAG))
            end do
         end if
         call scale(n, w(1, 1, V_DIAG), w(1, 1, V_X), w(1, 1, V_SCRATCH))
         odd_point = 0
         call find_norms(n, w(1, 1, V_SCRATCH), xnorm, odd_point)
         !$omp simd private(start)
         do q = 1, LANES
            odd(q) = odd_point(q)*first(q)
            xnorm(q) = merge(xnorm(q), s%xnorm(q), first(q) == 1)
            start = set%factor*xnorm(q)
            start = merge(start, set%factor, start > 0)
            radius(q) = merge(start, radius(q), first(q) == 1)
         end do
      end if

      ! Orthogonal to f?
      call largest_cosines(n, r, ipvt, w(1, 1, V_QTF), w(1, 1, V_COLNORM), s%fnorm, w(1, 1, V_SCRATCH), gnorm)
      !$omp simd
      do q = 1, LANES
         odd(q) = merge(odd(q), 1_ik, gnorm(q) <= huge(1.0_wp))
         odd(q) = merge(odd(q), 1_ik, s%fnorm(q) > 0)
         going(q) = merge(wanted(q), 0_ik, odd(q) == 0)
         going(q) = merge(going(q), 0_ik, gnorm(q) > set%gtol)
      end do
      if (set%scaling == SCALE_COLUMNS) then
         do j = 1, n
            !$omp simd
            do q = 1, LANES
               w(q, j, V_DIAG) = merge(max(w(q, j, V_DIAG), w(q, j, V_COLNORM)), w(q, j, V_DIAG), going(q) == 1)
            end do
         end do
      end if

      par = s%par
      length = s%pnorm
      call propose(n, going, radius, par, length, w, r, ipvt, lower, odd)
      !$omp simd
      do q = 1, LANES
         told(q) = merge(wanted(q), 0_ik, odd(q) == 0)
         going(q) = merge(going(q), 0_ik, odd(q) == 0)
         first(q) = merge(going(q), 0_ik, s%iteration(q) == 1)
         radius(q) = merge(min(radius(q), length(q)), radius(q), first(q) == 1)
         s%nfev(q) = s%nfev(q) + cost(q)*told(q)
         s%njev(q) = s%njev(q) + told(q)
         s%accepted(q) = merge(0_ik, s%accepted(q), told(q) == 1)
         s%xnorm(q) = merge(xnorm(q), s%xnorm(q), told(q) == 1)
         s%gnorm(q) = merge(gnorm(q), s%gnorm(q), told(q) == 1)
         s%radius(q) = merge(radius(q), s%radius(q), told(q) == 1)
         s%par(q) = merge(par(q), s%par(q), going(q) == 1)
         s%pnorm(q) = merge(length(q), s%pnorm(q), going(q) == 1)
         s%request(q) = merge(merge(ASK_NORM, ASK_DONE, going(q) == 1), s%request(q), told(q) == 1)
         s%info(q) = merge(merge(s%info(q), INFO_GTOL, going(q) == 1), s%info(q), told(q) == 1)
      end do
      call commit_step(n, going, ipvt, w)
   end subroutine TAGGED(lsq_lanes_tell_model)

   !> (JᵀJ)⁻¹ of each lane, as covar.f90 computes it; where R is singular, full is 0 and cov is meaningless.
   pure subroutine TAGGED(lsq_lanes_covar)(n, r, ipvt, cov, inverse, full) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(in) :: r(LANES, n, n)
      integer(ik), intent(in) :: ipvt(LANES, n)
      real(wp), intent(inout) :: cov(LANES, n, n)
      real(wp), intent(inout) :: inverse(LANES, n, n)     !< scratch: rows of R⁻¹
      integer(ik), intent(inout) :: full(LANES)
      real(wp) :: total(LANES)
      integer(ik) :: i, j, k, q

      full = 1
      do k = 1, n
         !$omp simd
         do q = 1, LANES
            full(q) = merge(full(q), 0_ik, abs(r(q, k, k)) > 0)
            inverse(q, k, k) = 1/r(q, k, k)
         end do
      end do
      do i = n - 1, 1, -1
         do k = i + 1, n
            total = 0
            do j = i + 1, k
               !$omp simd
               do q = 1, LANES
                  total(q) = total(q) + r(q, i, j)*inverse(q, k, j)
               end do
            end do
            inverse(:, k, i) = -total/r(:, i, i)
         end do
      end do
      do j = 1, n
         do i = 1, j
            total = 0
            do k = j, n
               !$omp simd
               do q = 1, LANES
                  total(q) = total(q) + inverse(q, k, i)*inverse(q, k, j)
               end do
            end do
            do q = 1, LANES
               cov(q, ipvt(q, i), ipvt(q, j)) = total(q)
               cov(q, ipvt(q, j), ipvt(q, i)) = total(q)
            end do
         end do
      end do
   end subroutine TAGGED(lsq_lanes_covar)

   ! ---------------------------------------------------------------------------
   ! Policy

   !> The reason to end each fit; 0: none.
   pure subroutine judge(set, nfev, gnorm, actual, predicted, ratio, radius, xnorm, info)
      type(lanes_settings_t), intent(in) :: set
      integer(ik), intent(in) :: nfev(LANES)      !< without this one
      real(wp), dimension(LANES), intent(in) :: gnorm, actual, predicted, ratio, radius, xnorm
      integer(ik), intent(out) :: info(LANES)
      real(wp) :: change
      integer(ik) :: q, why, within, f_converged

      !$omp simd private(change, why, within, f_converged)
      do q = 1, LANES
         change = max(abs(actual(q)), predicted(q))
         within = merge(1_ik, 0_ik, 0.5_wp*ratio(q) <= 1)
         f_converged = merge(within, 0_ik, change <= set%ftol)
         within = merge(within, 0_ik, change <= EPS)
         why = merge(INFO_MAXFEV, 0_ik, nfev(q) + 1 >= set%maxfev)
         why = merge(INFO_FTOL_TOO_SMALL, why, within == 1)
         why = merge(INFO_XTOL_TOO_SMALL, why, radius(q) <= EPS*xnorm(q))
         why = merge(INFO_GTOL_TOO_SMALL, why, gnorm(q) <= EPS)
         why = merge(INFO_FTOL, why, f_converged == 1)
         within = merge(INFO_FTOL_XTOL, INFO_XTOL, f_converged == 1)
         info(q) = merge(within, why, radius(q) <= set%xtol*xnorm(q))
      end do
   end subroutine judge

   ! ---------------------------------------------------------------------------
   ! Steps

   !> The next step within the radius, as lmpar computes it, into V_PIVOTED.  Marks lanes that are not ordinary as odd.
   pure subroutine propose(n, wanted, radius, par, length, w, r, ipvt, lower, odd)
      integer(ik), intent(in) :: n, wanted(LANES)
      real(wp), intent(in) :: radius(LANES)
      real(wp), intent(inout) :: par(LANES), length(LANES)    !< of the lanes that are wanted and not odd
      real(wp), intent(inout) :: w(LANES, n, VECTORS)     !< on return V_SCRATCH is minus the step, in the order of the pivots
      real(wp), intent(in) :: r(LANES, n, n)
      integer(ik), intent(in) :: ipvt(LANES, n)
      real(wp), intent(inout) :: lower(LANES, n, n)
      integer(ik), intent(inout) :: odd(LANES)
      real(wp), dimension(LANES) :: newton, excess
      integer(ik) :: going(LANES), q

      call gauss_newton(n, r, w(1, 1, V_QTF), w(1, 1, V_SCRATCH), odd)
      call scale_scattered(n, ipvt, w(1, 1, V_DIAG), w(1, 1, V_SCRATCH), w(1, 1, V_SCRATCH + 1))
      call find_norms(n, w(1, 1, V_SCRATCH + 1), newton, odd)
      !$omp simd
      do q = 1, LANES
         excess(q) = newton(q) - radius(q)
         length(q) = merge(newton(q), length(q), wanted(q) == 1)
         going(q) = merge(0_ik, wanted(q), excess(q) <= RADIUS_TOLERANCE*radius(q))
         par(q) = merge(0.0_wp, par(q), wanted(q) - going(q) == 1)
         going(q) = merge(going(q), 0_ik, odd(q) == 0)
      end do
      if (sum(going) > 0) call damp(n, going, radius, par, length, excess, w(1, 1, V_DIAG), w(1, 1, V_QTF), r, ipvt, &
         w(1, 1, V_SCRATCH), w(1, 1, V_SCRATCH + 1), w(1, 1, V_SCRATCH + 2), w(1, 1, V_SCRATCH + 3), &
         w(1, 1, V_SCRATCH + 4), w(1, 1, V_SCRATCH + 5), w(1, 1, V_SCRATCH + 6), lower, odd)
   end subroutine propose

   !> Newton's iteration for the parameter, each lane until its step is as long as its radius.
   pure subroutine damp(n, wanted, radius, par, length, excess, d, qtf, r, ipvt, step, product, diag, z, x, sdiag, row, &
      lower, odd)
      integer(ik), intent(in) :: n, wanted(LANES)
      real(wp), intent(in) :: radius(LANES)
      real(wp), intent(inout) :: par(LANES), length(LANES)
      real(wp), intent(inout) :: excess(LANES)    !< of the Gauss–Newton step; overwritten
      real(wp), intent(in) :: d(LANES, n), qtf(LANES, n)
      real(wp), intent(in) :: r(LANES, n, n)
      integer(ik), intent(in) :: ipvt(LANES, n)
      real(wp), intent(inout) :: step(LANES, n)   !< the Gauss–Newton step; on return this one; in the order of the pivots
      real(wp), intent(inout) :: product(LANES, n), diag(LANES, n), z(LANES, n), x(LANES, n), sdiag(LANES, n), row(LANES, n)
      real(wp), intent(inout) :: lower(LANES, n, n)
      integer(ik), intent(inout) :: odd(LANES)
      real(wp), dimension(LANES) :: least, most, norm, gradient, new_length, last
      real(wp) :: correction, start
      integer(ik), dimension(LANES) :: going, over
      integer(ik) :: i, j, q
      integer :: turn

      do j = 1, n
         do q = 1, LANES
            diag(q, j) = d(q, ipvt(q, j))
         end do
      end do

      ! Bounds of the parameter
      call shrink_rows(n, diag, step, length, z)
      do j = 1, n
         do i = 1, j - 1
            if (i == 1) norm = 0
            !$omp simd
            do q = 1, LANES
               norm(q) = norm(q) + r(q, i, j)*z(q, i)
            end do
         end do
         if (j == 1) norm = 0
         !$omp simd
         do q = 1, LANES
            z(q, j) = (z(q, j) - norm(q))/r(q, j, j)
         end do
      end do
      over = 0
      call find_norms(n, z, norm, over)
      !$omp simd
      do q = 1, LANES
         least(q) = ((excess(q)/radius(q))/norm(q))/norm(q)
      end do
      do j = 1, n
         gradient = 0
         do i = 1, j
            !$omp simd
            do q = 1, LANES
               gradient(q) = gradient(q) + r(q, i, j)*qtf(q, i)
            end do
         end do
         !$omp simd
         do q = 1, LANES
            z(q, j) = gradient(q)/diag(q, j)
         end do
      end do
      call find_norms(n, z, gradient, over)
      !$omp simd private(start)
      do q = 1, LANES
         most(q) = gradient(q)/radius(q)
         over(q) = merge(over(q), 1_ik, most(q) > 0)
         over(q) = merge(over(q), 1_ik, most(q) <= huge(1.0_wp))
         over(q) = merge(over(q), 1_ik, least(q) <= huge(1.0_wp))
         over(q) = merge(over(q), 1_ik, norm(q) > 0)
         start = min(max(par(q), least(q)), most(q))
         start = merge(gradient(q)/length(q), start, start == 0)
         par(q) = merge(start, par(q), wanted(q) == 1)
         going(q) = merge(wanted(q), 0_ik, over(q) == 0)
         odd(q) = odd(q) + wanted(q)*over(q)
      end do

      do turn = 1, MOST_NEWTON_STEPS
         !$omp simd private(start)
         do q = 1, LANES
            start = merge(max(DWARF, LEAST_FRACTION_OF_UPPER*most(q)), par(q), par(q) == 0)
            par(q) = merge(start, par(q), going(q) == 1)
            norm(q) = sqrt(par(q))
         end do
         call solve_damped(n, norm, diag, r, qtf, lower, x, sdiag, row, odd, going)
         call scale_scattered(n, ipvt, d, x, product)
         over = 0
         call find_norms(n, product, new_length, over)
         !$omp simd
         do q = 1, LANES
            odd(q) = odd(q) + going(q)*over(q)
            going(q) = merge(going(q), 0_ik, odd(q) == 0)
            length(q) = merge(new_length(q), length(q), going(q) == 1)
            last(q) = excess(q)
            excess(q) = new_length(q) - radius(q)
         end do
         do j = 1, n
            call take(going, x(1, j), step(1, j))
         end do
         !$omp simd
         do q = 1, LANES
            over(q) = merge(going(q), 0_ik, least(q) == 0)     ! below the radius, and shrinking
            over(q) = merge(over(q), 0_ik, excess(q) <= last(q))
            over(q) = merge(over(q), 0_ik, last(q) < 0)
            going(q) = merge(0_ik, going(q) - over(q), abs(excess(q)) <= RADIUS_TOLERANCE*radius(q))
         end do
         if (sum(going) == 0 .or. turn == MOST_NEWTON_STEPS) return

         call shrink_rows(n, diag, x, new_length, z)
         do j = 1, n
            !$omp simd
            do q = 1, LANES
               z(q, j) = z(q, j)/sdiag(q, j)
            end do
            do i = j + 1, n
               !$omp simd
               do q = 1, LANES
                  z(q, i) = z(q, i) - lower(q, i, j)*z(q, j)
               end do
            end do
         end do
         over = 0
         call find_norms(n, z, norm, over)
         !$omp simd private(correction)
         do q = 1, LANES
            odd(q) = odd(q) + going(q)*over(q)
            correction = ((excess(q)/radius(q))/norm(q))/norm(q)
            least(q) = merge(max(least(q), par(q)), least(q), excess(q) > 0)
            most(q) = merge(min(most(q), par(q)), most(q), excess(q) < 0)
            par(q) = merge(max(least(q), par(q) + correction), par(q), going(q) == 1)
         end do
      end do
   end subroutine damp

   !> x = the step with damping*diag appended to R, as qrsolv computes it, all in the order of the pivots.
   !> `lower` holds Sᵀ below its diagonal, which is sdiag.
   pure subroutine solve_damped(n, damping, diag, r, qtf, lower, x, sdiag, scratch, odd, going)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: damping(LANES), diag(LANES, n), r(LANES, n, n), qtf(LANES, n)
      real(wp), intent(inout) :: lower(LANES, n, n), x(LANES, n), sdiag(LANES, n)
      real(wp), intent(inout) :: scratch(LANES, n)        !< the row that is being rotated in
      integer(ik), intent(inout) :: odd(LANES)
      integer(ik), intent(in) :: going(LANES)
      real(wp), dimension(LANES) :: rhs, sine, cosine, total
      real(wp) :: kept, turned, larger, smaller, tangent
      integer(ik) :: acts(LANES), i, j, k, q
      logical :: steep

      do j = 1, n
         do i = j, n
            lower(:, i, j) = r(:, j, i)
         end do
         x(:, j) = qtf(:, j)
      end do
      do j = 1, n
         scratch(:, j + 1:n) = 0
         rhs = 0
         !$omp simd
         do q = 1, LANES
            scratch(q, j) = damping(q)*diag(q, j)
         end do
         do k = j, n
            !$omp simd private(kept, turned, larger, smaller, tangent, steep)
            do q = 1, LANES
               acts(q) = merge(0_ik, 1_ik, scratch(q, k) == 0)
               steep = abs(lower(q, k, k)) < abs(scratch(q, k))
               larger = merge(scratch(q, k), lower(q, k, k), steep)
               smaller = merge(lower(q, k, k), scratch(q, k), steep)
               tangent = smaller/larger
               kept = 0.5_wp/sqrt(0.25_wp + 0.25_wp*tangent**2)
               turned = kept*tangent
               sine(q) = merge(kept, turned, steep)
               cosine(q) = merge(turned, kept, steep)
               kept = cosine(q)*lower(q, k, k) + sine(q)*scratch(q, k)
               lower(q, k, k) = merge(kept, lower(q, k, k), acts(q) == 1)
               kept = cosine(q)*x(q, k) + sine(q)*rhs(q)
               turned = -sine(q)*x(q, k) + cosine(q)*rhs(q)
               rhs(q) = merge(turned, rhs(q), acts(q) == 1)
               x(q, k) = merge(kept, x(q, k), acts(q) == 1)
            end do
            do i = k + 1, n
               !$omp simd private(kept, turned)
               do q = 1, LANES
                  kept = cosine(q)*lower(q, i, k) + sine(q)*scratch(q, i)
                  turned = -sine(q)*lower(q, i, k) + cosine(q)*scratch(q, i)
                  scratch(q, i) = merge(turned, scratch(q, i), acts(q) == 1)
                  lower(q, i, k) = merge(kept, lower(q, i, k), acts(q) == 1)
               end do
            end do
         end do
         !$omp simd
         do q = 1, LANES
            sdiag(q, j) = lower(q, j, j)
            odd(q) = merge(odd(q) + going(q), odd(q), sdiag(q, j) == 0)
         end do
      end do

      do j = n, 1, -1
         total = 0
         do i = j + 1, n
            !$omp simd
            do q = 1, LANES
               total(q) = total(q) + lower(q, i, j)*x(q, i)
            end do
         end do
         !$omp simd
         do q = 1, LANES
            x(q, j) = (x(q, j) - total(q))/sdiag(q, j)
         end do
      end do
   end subroutine solve_damped

   !> z = R⁻¹ Q'f in the order of the pivots; where R is singular the lane is odd.
   pure subroutine gauss_newton(n, r, qtf, z, odd)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: r(LANES, n, n), qtf(LANES, n)
      real(wp), intent(inout) :: z(LANES, n)
      integer(ik), intent(inout) :: odd(LANES)
      integer(ik) :: i, j, q

      z = qtf
      do j = n, 1, -1
         !$omp simd
         do q = 1, LANES
            odd(q) = merge(1_ik, odd(q), r(q, j, j) == 0)
            z(q, j) = z(q, j)/r(q, j, j)
         end do
         do i = 1, j - 1
            !$omp simd
            do q = 1, LANES
               z(q, i) = z(q, i) - r(q, i, j)*z(q, j)
            end do
         end do
      end do
   end subroutine gauss_newton

   !> The step of these lanes, the negative of V_SCRATCH, and the trial point.
   pure subroutine commit_step(n, marks, ipvt, w)
      integer(ik), intent(in) :: n, marks(LANES), ipvt(LANES, n)
      real(wp), intent(inout) :: w(LANES, n, VECTORS)
      integer(ik) :: j, q

      do j = 1, n
         !$omp simd
         do q = 1, LANES
            w(q, j, V_PIVOTED) = merge(-w(q, j, V_SCRATCH), w(q, j, V_PIVOTED), marks(q) == 1)
         end do
         do q = 1, LANES
            w(q, ipvt(q, j), V_STEP) = w(q, j, V_PIVOTED)
         end do
      end do
      do j = 1, n
         !$omp simd
         do q = 1, LANES
            w(q, j, V_TRIAL) = merge(w(q, j, V_X) + w(q, j, V_STEP), w(q, j, V_TRIAL), marks(q) == 1)
         end do
      end do
   end subroutine commit_step

   ! ---------------------------------------------------------------------------
   ! Products and norms

   !> y = R p, p in the order of the pivots.
   pure subroutine triangle_times(n, r, p, y)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: r(LANES, n, n), p(LANES, n)
      real(wp), intent(inout) :: y(LANES, n)
      real(wp) :: total(LANES)
      integer(ik) :: i, j, q

      do i = 1, n
         total = 0
         do j = i, n
            !$omp simd
            do q = 1, LANES
               total(q) = total(q) + r(q, i, j)*p(q, j)
            end do
         end do
         y(:, i) = total
      end do
   end subroutine triangle_times

   !> Largest |cosine| between f and a column of J, from R and Q'f.
   pure subroutine largest_cosines(n, r, ipvt, qtf, colnorm, fnorm, scratch, largest)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: r(LANES, n, n)
      integer(ik), intent(in) :: ipvt(LANES, n)
      real(wp), intent(in) :: qtf(LANES, n), colnorm(LANES, n), fnorm(LANES)
      real(wp), intent(inout) :: scratch(LANES, n, 2)     !< Q'f/‖f‖, and norms in the order of the pivots
      real(wp), intent(out) :: largest(LANES)
      real(wp) :: total(LANES), cosine
      integer(ik) :: i, j, q

      largest = 0
      do j = 1, n
         do q = 1, LANES
            scratch(q, j, 2) = colnorm(q, ipvt(q, j))
         end do
         scratch(:, j, 1) = qtf(:, j)/fnorm
         total = 0
         do i = 1, j
            !$omp simd
            do q = 1, LANES
               total(q) = total(q) + r(q, i, j)*scratch(q, i, 1)
            end do
         end do
         !$omp simd private(cosine)
         do q = 1, LANES
            cosine = abs(total(q)/scratch(q, j, 2))
            largest(q) = merge(largest(q), cosine, cosine <= largest(q))    ! keeps a nan
         end do
      end do
   end subroutine largest_cosines

   !> z = diag (diag step/length).
   pure subroutine shrink_rows(n, diag, step, length, z)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: diag(LANES, n), step(LANES, n), length(LANES)
      real(wp), intent(inout) :: z(LANES, n)
      integer(ik) :: j, q

      do j = 1, n
         !$omp simd
         do q = 1, LANES
            z(q, j) = diag(q, j)*((diag(q, j)*step(q, j))/length(q))
         end do
      end do
   end subroutine shrink_rows

   pure subroutine scale(n, diag, v, product)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: diag(LANES, n), v(LANES, n)
      real(wp), intent(inout) :: product(LANES, n)

      product = diag*v
   end subroutine scale

   !> product = D v, v in the order of the pivots and D and the product in that of the parameters.
   pure subroutine scale_scattered(n, ipvt, diag, v, product)
      integer(ik), intent(in) :: n, ipvt(LANES, n)
      real(wp), intent(in) :: diag(LANES, n), v(LANES, n)
      real(wp), intent(inout) :: product(LANES, n)
      integer(ik) :: j, q

      do j = 1, n
         do q = 1, LANES
            product(q, ipvt(q, j)) = v(q, j)
         end do
      end do
      product = diag*product
   end subroutine scale_scattered

   !> Norms as the roots of sums of squares; a lane that enorm.f90 would guard becomes odd.
   pure subroutine find_norms(n, v, norms, odd)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: v(LANES, n)
      real(wp), intent(out) :: norms(LANES)
      integer(ik), intent(inout) :: odd(LANES)
      real(wp) :: total(LANES), least(LANES), limit, size
      integer(ik) :: i, q, strange

      limit = (LARGEST_SQUARABLE/real(n, wp))**2
      total = 0
      least = huge(1.0_wp)                        ! the smallest magnitude other than zero
      do i = 1, n
         !$omp simd private(size)
         do q = 1, LANES
            total(q) = total(q) + merge(v(q, i)*v(q, i), 0.0_wp, .not. abs(v(q, i)) <= SMALLEST_SQUARABLE)
            size = merge(abs(v(q, i)), huge(1.0_wp), v(q, i) /= 0)
            least(q) = merge(size, least(q), size < least(q))
         end do
      end do
      norms = sqrt(total)
      !$omp simd private(strange)
      do q = 1, LANES
         strange = merge(0_ik, 1_ik, least(q) > SMALLEST_SQUARABLE)
         strange = merge(0_ik, strange, total(q) >= LEAVES_SMALL_OUT*real(n, wp))
         strange = merge(strange, 1_ik, total(q) < limit)
         odd(q) = merge(odd(q), 1_ik, strange == 0)
      end do
   end subroutine find_norms

   !> there = here in these lanes.
   pure subroutine take(marks, here, there)
      integer(ik), intent(in) :: marks(LANES)
      real(wp), intent(in) :: here(LANES)
      real(wp), intent(inout) :: there(LANES)
      integer(ik) :: q

      !$omp simd
      do q = 1, LANES
         there(q) = merge(here(q), there(q), marks(q) == 1)
      end do
   end subroutine take

end module TAGGED(leastsq_lane_steps)
