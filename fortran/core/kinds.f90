!> Working precision, index kind, and every code that crosses a boundary.
!>
!> Status, request and scaling codes are defined here. core.h and
!> leastsq.Status repeat them, and a test compares the three.
module leastsq_kinds
   use, intrinsic :: iso_c_binding, only: c_double, c_int, c_int64_t
   implicit none (type, external)
   private

   integer, parameter, public :: wp = c_double     !< working precision
   integer, parameter, public :: ik = c_int64_t    !< sizes: m*n may exceed 2**31
   integer, parameter, public :: sk = c_int        !< status returned by callbacks

   ! Why a fit ended.  0 to 8 are MINPACK's info.
   integer(ik), parameter, public :: INFO_IMPROPER = 0
   integer(ik), parameter, public :: INFO_FTOL = 1
   integer(ik), parameter, public :: INFO_XTOL = 2
   integer(ik), parameter, public :: INFO_FTOL_XTOL = 3
   integer(ik), parameter, public :: INFO_GTOL = 4
   integer(ik), parameter, public :: INFO_MAXFEV = 5
   integer(ik), parameter, public :: INFO_FTOL_TOO_SMALL = 6
   integer(ik), parameter, public :: INFO_XTOL_TOO_SMALL = 7
   integer(ik), parameter, public :: INFO_GTOL_TOO_SMALL = 8
   integer(ik), parameter, public :: INFO_NOT_FINITE = 9
   integer(ik), parameter, public :: INFO_STOPPED = 10
   integer(ik), parameter, public :: INFO_WATCHER = 11
   integer(ik), parameter, public :: INFO_NO_DATA = 12     ! only in batches; the core never sets it

   ! What the ask/tell machine wants next.
   integer(ik), parameter, public :: ASK_DONE = 0
   integer(ik), parameter, public :: ASK_NORM = 1
   integer(ik), parameter, public :: ASK_MODEL = 2
   integer(ik), parameter, public :: ASK_CHANGE = 3        ! with a strategy: Jᵀ(f(trial) − f(x)), where f(trial) is known
   integer(ik), parameter, public :: ASK_FEELER = 4        ! the same at a point evaluated only for that

   ! Which steps are taken.
   integer(ik), parameter, public :: STRATEGY_MINPACK = 0
   integer(ik), parameter, public :: STRATEGY_FAST = 1
   integer(ik), parameter, public :: STRATEGY_ROBUST = 2

   ! Source of the scale factors (MINPACK's mode).
   integer(ik), parameter, public :: SCALE_COLUMNS = 1
   integer(ik), parameter, public :: SCALE_USER = 2

   ! Exact IEEE constants; MINPACK's are truncated decimals.
   real(wp), parameter, public :: EPS = epsilon(1.0_wp)
   real(wp), parameter, public :: DWARF = tiny(1.0_wp)

end module leastsq_kinds
