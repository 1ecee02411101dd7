!> From MINPACK's arguments to the loop and back.
!>
!> Behind lmdif and lmder: the settings go into lm_core's state, lm_drive runs, the
!> answer comes out (ANL-80-74 for the arguments).
!>
!> Public: fit, work_size.  Its data is m-sized.
module leastsq_fit
   use leastsq_kinds, only: wp, ik, INFO_IMPROPER
   use leastsq_lm_core, only: lm_state_t, V_X, V_DIAG, V_QTF, VECTORS
   use leastsq_lm_drive, only: problem_t, lm_drive
   implicit none (type, external)
   private
   public :: fit, work_size

contains

   pure function work_size(m, n) result(size)
      integer(ik), intent(in) :: m, n
      integer(ik) :: size

      size = m + n*VECTORS
   end function work_size

   !> The arguments are the doors'; r and ldr are the problem's model's.
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

end module leastsq_fit
