!> A problem, and the one Levenberg–Marquardt loop over it.
!>
!> The m-sized world: evaluates what lm_core asks for and factors the Jacobian
!> (LNM 630, 1978).  lmdif and lmder are doors to it that differ only in who
!> makes the Jacobian.
!>
!> Public: problem_t, lm_drive.  Its data is m-sized.
module leastsq_lm_drive
   use leastsq_kinds, only: wp, ik, sk, ASK_DONE, ASK_NORM, ASK_MODEL, INFO_STOPPED
   use leastsq_enorm, only: enorm
   use leastsq_qrfac, only: qrfac
   use leastsq_lm_core, only: lm_state_t, lm_start, lm_tell_norm, lm_tell_model, &
      V_X, V_TRIAL, V_STEP, V_COLNORM, V_QTF, V_SCRATCH, VECTORS
   implicit none (type, external)
   private
   public :: problem_t, lm_drive

   !> What is fitted: m residuals of n parameters.
   type, abstract :: problem_t
   contains
      procedure(residual_i), deferred :: residual
      procedure(jacobian_i), deferred :: jacobian
   end type problem_t

   abstract interface
      !> f = f(x).  A status other than 0 ends the fit.
      subroutine residual_i(self, m, n, x, f, status)
         import :: problem_t, wp, ik, sk
         implicit none (type, external)
         class(problem_t), intent(inout) :: self
         integer(ik), intent(in) :: m, n
         real(wp), intent(in) :: x(n)
         real(wp), intent(out) :: f(m)
         integer(sk), intent(out) :: status
      end subroutine residual_i

      !> fjac = J(x), given f = f(x); `cost` says how many residuals it took.
      !> `scratch` is n long.
      subroutine jacobian_i(self, m, n, x, f, fjac, scratch, cost, status)
         import :: problem_t, wp, ik, sk
         implicit none (type, external)
         class(problem_t), intent(inout) :: self
         integer(ik), intent(in) :: m, n
         real(wp), intent(in) :: x(n), f(m)
         real(wp), intent(out) :: fjac(m, n)
         real(wp), intent(out) :: scratch(n)
         integer(ik), intent(out) :: cost
         integer(sk), intent(out) :: status
      end subroutine jacobian_i
   end interface

contains

   !> Fit.  The settings in s, w's column V_X (and V_DIAG, if the scaling is the
   !> user's) are set; the answer is in the same places.
   subroutine lm_drive(problem, m, n, s, w, fvec, fjac, ipvt, spare)
      class(problem_t), intent(inout) :: problem
      integer(ik), intent(in) :: m                !< residuals, >= n
      integer(ik), intent(in) :: n                !< parameters, s%n
      type(lm_state_t), intent(inout) :: s        !< settings; then the verdict
      real(wp), intent(inout) :: w(n, VECTORS)    !< lm_core's vectors
      real(wp), intent(inout), target :: fvec(m)  !< f at the answer
      real(wp), intent(inout) :: fjac(m, n)       !< factors of the last J, as qrfac's
      integer(ik), intent(inout) :: ipvt(n)       !< its permutation
      real(wp), intent(inout), target :: spare(m) !< scratch
      real(wp), pointer, contiguous :: f(:), f_trial(:), passed(:)
      integer(ik) :: cost
      integer(sk) :: status
      logical :: in_spare

      ! f(x) and f(trial) change places when a step is accepted: no copies
      f => fvec
      f_trial => spare
      in_spare = .false.
      cost = 0
      status = 0
      call lm_start(s, w)
      do while (s%request /= ASK_DONE)
         select case (s%request)
         case (ASK_NORM)
            cost = 1
            call problem%residual(m, n, w(1, V_TRIAL), f_trial, status)
            if (status /= 0) exit
            call lm_tell_norm(s, w, fjac, m, ipvt, enorm(m, f_trial), cost)
            if (s%accepted == 1) then
               passed => f
               f => f_trial
               f_trial => passed
               in_spare = .not. in_spare
            end if
         case (ASK_MODEL)
            call problem%jacobian(m, n, w(1, V_X), f, fjac, w(1, V_SCRATCH), cost, status)
            if (status /= 0) exit
            call factor_model(m, n, f, fjac, ipvt, w, f_trial)
            call lm_tell_model(s, w, fjac, m, ipvt, cost)
         end select
      end do
      if (status /= 0) then
         s%info = INFO_STOPPED
         s%nfev = s%nfev + cost                   ! the last of them said stop
      end if
      if (in_spare) fvec = spare
   end subroutine lm_drive

   !> QR of fjac in place, with Q'f and R's diagonal put where lm_core wants them.
   subroutine factor_model(m, n, f, fjac, ipvt, w, qtf)
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: f(m)
      real(wp), intent(inout) :: fjac(m, n)
      integer(ik), intent(out) :: ipvt(n)
      real(wp), intent(inout) :: w(n, VECTORS)
      real(wp), intent(out) :: qtf(m)
      integer(ik) :: j

      qtf = f
      call qrfac(m, n, fjac, m, .true., ipvt, w(1, V_SCRATCH), w(1, V_COLNORM), w(1, V_STEP), qtf)
      if (.not. all(w(:, V_COLNORM) <= huge(1.0_wp))) return
      do j = 1, n
         fjac(j, j) = w(j, V_SCRATCH)
         w(j, V_QTF) = qtf(j)
      end do
   end subroutine factor_model

end module leastsq_lm_drive
