!> The state of the ask/tell machine: a record, and an array w of vectors with named columns.
!>
!> Shared by lm_core.f90, bounds.f90, probes.f90 and curvature.f90; core.h mirrors the record and the columns.
!>
!> Public: lm_state_t, core_columns, curvature_base, V_X and the other columns, C_CHANGE and the other columns
!> of the strategies, PROBE_START and the other probes.
!> Its data is n-sized.
module leastsq_lm_state
   use, intrinsic :: iso_c_binding, only: c_double, c_int64_t
   use leastsq_kinds, only: wp, ik, STRATEGY_MINPACK
   implicit none (type, external)
   private
   public :: lm_state_t, core_columns, curvature_base

   !> The caller owns this record, the vectors w, the triangle r and ipvt, and
   !> passes all of them to every event unchanged.
   type, bind(c) :: lm_state_t
      ! Set by the caller before lm_start
      integer(c_int64_t) :: n                !< parameters, > 0
      integer(c_int64_t) :: maxfev           !< limit on evaluations, > 0
      integer(c_int64_t) :: scaling          !< SCALE_COLUMNS or SCALE_USER
      real(c_double) :: ftol, xtol, gtol     !< tolerances, >= 0
      real(c_double) :: factor               !< first radius in units of ‖D x₀‖, > 0
      ! Set by the machine
      integer(c_int64_t) :: request          !< ASK_NORM, ASK_MODEL or ASK_DONE
      integer(c_int64_t) :: info             !< why the fit ended, once done
      integer(c_int64_t) :: accepted         !< 1: the trial just told is now x
      integer(c_int64_t) :: nfev, njev       !< evaluations and models told
      integer(c_int64_t) :: iteration        !< 1 + accepted steps; 0 before ‖f(x₀)‖
      real(c_double) :: fnorm                !< ‖f(x)‖
      real(c_double) :: xnorm                !< ‖D x‖
      real(c_double) :: gnorm                !< largest |cos(f, column of J)|
      real(c_double) :: radius               !< Δ
      real(c_double) :: par                  !< Levenberg–Marquardt parameter
      real(c_double) :: pnorm                !< ‖D p‖ of the last step
      real(c_double) :: actual, predicted    !< relative reductions of ‖f‖²
      real(c_double) :: slope                !< directional derivative, same units
      real(c_double) :: ratio                !< actual/predicted
      ! Set by the caller before lm_start, if the variables have bounds
      integer(c_int64_t) :: bounded = 0      !< 1: w has V_LO and V_HI, lo <= x <= hi
      ! Set by the machine, with bounds
      integer(c_int64_t) :: hits = 0         !< sides of the near box (see near_box) that cut the step short
      integer(c_int64_t) :: probe = 0        !< kind of trial; PROBE_NONE: a step
      integer(c_int64_t) :: pending = 0      !< info, unless the probe finds a better point
      integer(c_int64_t) :: best_info = 0    !< info if the fit returns to V_BEST
      integer(c_int64_t) :: restarts = 0     !< restarts so far (without bounds, the robust strategy's)
      integer(c_int64_t) :: felt = 0         !< is V_FELT set?  FELT_NOWHERE, FELT_BEFORE, FELT_HERE
      integer(c_int64_t) :: touched = 0      !< 1: bounds have cut a step short
      integer(c_int64_t) :: tries = 0        !< trials of the search inside the box
      real(c_double) :: distrust = 1         !< distrust of the model near bounds: 1 at first, 0 none
      real(c_double) :: best_norm = 0        !< ‖f‖ at V_BEST
      real(c_double) :: tried_norm = 0       !< ‖f‖ at the best trial of the search
      ! Set by the caller before lm_start
      integer(c_int64_t) :: strategy = 0     !< STRATEGY_MINPACK, or else w has the columns of curvature_base
      integer(c_int64_t) :: changes = 0      !< 1: ASK_CHANGE and ASK_FEELER will be answered; 0: never ask
      ! Set by the machine, with a strategy
      integer(c_int64_t) :: past = 0         !< f at the previous x: PAST_NONE, PAST_WANTED, PAST_TOLD
      integer(c_int64_t) :: known = 0        !< 1: C_ALONG and C_BEND belong to this model
      integer(c_int64_t) :: attempt = 0      !< 1: the trial is the second try of a step
      integer(c_int64_t) :: sound = 0        !< 1: the damped triangle S is finite and nonsingular
      real(c_double) :: first_norm = 0       !< ‖f‖ at the first try
      real(c_double) :: start_norm = 0       !< ‖f(x₀)‖
   end type lm_state_t

   !> Columns of the vectors w(n, core_columns(n, bounded, strategy)): the first VECTORS
   !> always, those after them only with bounds.
   integer, parameter, public :: V_X = 1        !< the best point; set before lm_start
   integer, parameter, public :: V_TRIAL = 2    !< the point at which ‖f‖ is wanted
   integer, parameter, public :: V_STEP = 3     !< p = trial − x
   integer, parameter, public :: V_DIAG = 4     !< D; set before lm_start with SCALE_USER
   integer, parameter, public :: V_COLNORM = 5  !< column norms of J: told with a model
   integer, parameter, public :: V_QTF = 6      !< Q'f: told with a model
   integer, parameter, public :: V_SCRATCH = 7
   integer, parameter, public :: VECTORS = V_SCRATCH + 3
   integer, parameter, public :: V_LO = VECTORS + 1     !< lower bounds, −∞ for none; set before lm_start
   integer, parameter, public :: V_HI = VECTORS + 2     !< upper bounds, +∞ for none; set before lm_start
   integer, parameter, public :: V_SIDE = VECTORS + 3   !< −1 at lo, 1 at hi, 0 free
   integer, parameter, public :: V_SLOPE = VECTORS + 4  !< Jᵀf/‖f‖
   integer, parameter, public :: V_LARGEST = VECTORS + 5   !< largest |x| so far
   integer, parameter, public :: V_FELT = VECTORS + 6  !< last x at which f depended on every variable
   integer, parameter, public :: V_LEFT = VECTORS + 7   !< the step away from V_FELT; in a search, its best trial
   integer, parameter, public :: V_BEST = VECTORS + 8   !< the best x before the restart
   integer, parameter, public :: V_WARY = VECTORS + 9   !< bound at which f or the model was not finite: < 0 lo, > 0 hi
   integer, parameter, public :: V_NEAR_LO = VECTORS + 10   !< scratch: lower and
   integer, parameter, public :: V_NEAR_HI = VECTORS + 11   !< upper limits of the step (near_box)
   integer, parameter, public :: V_RHS = VECTORS + 12   !< scratch
   integer, parameter, public :: V_TRIANGLE = VECTORS + 13  !< n columns of scratch

   !> Columns after all of these, only with a strategy: curvature_base + C_CHANGE and so on.
   integer, parameter, public :: C_CHANGE = 1   !< told: Jᵀ(f(y) − f(x)), where y is the previous x or the trial
   integer, parameter, public :: C_LAST_X = 2   !< the previous x
   integer, parameter, public :: C_LARGEST = 3  !< largest |x| so far (with bounds: V_LARGEST)
   integer, parameter, public :: C_ALONG = 4    !< d = previous x − x
   integer, parameter, public :: C_BEND = 5     !< Jᵀf″dd
   integer, parameter, public :: C_START = 6    !< x₀, for the robust strategy
   integer, parameter, public :: C_BEST = 7     !< the best x before the restart (with bounds: V_BEST)
   integer, parameter, public :: C_SDIAG = 8    !< scratch: diagonal of S
   integer, parameter, public :: C_ANSWER = 9   !< scratch: the acceleration a
   integer, parameter, public :: C_SCRATCH = 10 !< two vectors
   integer, parameter, public :: CURVATURE_VECTORS = C_SCRATCH + 1

   ! C_CHANGE for f at the previous x, when a model is asked for.
   integer(ik), parameter, public :: PAST_NONE = 0
   integer(ik), parameter, public :: PAST_WANTED = 1    !< tell C_CHANGE with the model, if possible
   integer(ik), parameter, public :: PAST_TOLD = 2      !< set by the caller that has told C_CHANGE

   ! Kinds of trials: a step of the model, or a probe
   integer(ik), parameter, public :: PROBE_NONE = 0
   integer(ik), parameter, public :: PROBE_START = 1    !< a start on a bound, moved inside
   integer(ik), parameter, public :: PROBE_END = 2      !< variables near their bounds, put onto them
   integer(ik), parameter, public :: PROBE_BACK = 3     !< back from a region where f does not depend on a variable
   integer(ik), parameter, public :: PROBE_SEARCH = 4   !< inside the box, if there is no point to go back to
   integer(ik), parameter, public :: PROBE_RETURN = 5   !< to V_BEST, which was better
   integer(ik), parameter, public :: PROBE_RETREAT = 6  !< inside, from bounds at which f or the model is not finite

   ! How a variable avoids a bound; stored as reals so that they fit in a column of w
   real(wp), parameter, public :: FEARLESS = 0
   real(wp), parameter, public :: WARY = 1      !< f was not finite on it: tried once more, at the end
   real(wp), parameter, public :: BURNT = 2     !< never tried again
   ! Where f depended on every variable: nowhere yet, at V_FELT, or at x
   integer(ik), parameter, public :: FELT_NOWHERE = 0, FELT_BEFORE = 1, FELT_HERE = 2

contains

   !> The number of columns of w.
   elemental function core_columns(n, bounded, strategy) result(columns)
      integer(ik), intent(in) :: n, bounded, strategy
      integer(ik) :: columns

      columns = curvature_base(n, bounded)
      if (strategy /= STRATEGY_MINPACK) columns = columns + CURVATURE_VECTORS
   end function core_columns

   !> The column before C_CHANGE = 1: the number of columns without a strategy.
   elemental function curvature_base(n, bounded) result(columns)
      integer(ik), intent(in) :: n, bounded
      integer(ik) :: columns

      columns = VECTORS
      if (bounded /= 0) columns = V_TRIANGLE - 1 + n
   end function curvature_base

end module leastsq_lm_state
