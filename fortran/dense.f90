!> The dense provider: the whole Jacobian in memory, factored in place.
!>
!> MINPACK's way (ANL-80-74, lmder and lmdif), and its bits: r is the m x n
!> Jacobian, which becomes qrfac's factors.
!>
!> Public: dense_problem_t.  Its data is m-sized.
module leastsq_dense
   use leastsq_kinds, only: wp, ik, sk
   use leastsq_qrfac, only: qrfac
   use leastsq_lm_core, only: V_STEP, V_COLNORM, V_QTF, V_SCRATCH, VECTORS
   use leastsq_lm_drive, only: problem_t
   implicit none (type, external)
   private
   public :: dense_problem_t

   type, abstract, extends(problem_t) :: dense_problem_t
   contains
      procedure(jacobian_i), deferred :: jacobian
      procedure :: model => factored_jacobian
   end type dense_problem_t

   abstract interface
      !> fjac = J(x), given f = f(x).
      subroutine jacobian_i(self, m, n, x, f, fjac, scratch, cost, status)
         import :: dense_problem_t, wp, ik, sk
         implicit none (type, external)
         class(dense_problem_t), intent(inout) :: self
         integer(ik), intent(in) :: m, n
         real(wp), intent(in) :: x(n), f(m)
         real(wp), intent(out) :: fjac(m, n)
         real(wp), intent(out) :: scratch(n)
         integer(ik), intent(out) :: cost          !< residuals evaluated
         integer(sk), intent(out) :: status
      end subroutine jacobian_i
   end interface

contains

   !> problem_t's model; ldr is m.
   subroutine factored_jacobian(self, m, n, x, f, r, ldr, ipvt, w, spare, cost, status)
      class(dense_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n, ldr
      real(wp), intent(in) :: x(n), f(m)
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: w(n, VECTORS)
      real(wp), intent(inout) :: spare(m)
      integer(ik), intent(out) :: cost
      integer(sk), intent(out) :: status
      integer(ik) :: j

      call self%jacobian(m, n, x, f, r, w(1, V_SCRATCH), cost, status)
      if (status /= 0) return
      spare = f
      call qrfac(m, n, r, ldr, .true., ipvt, w(1, V_SCRATCH), w(1, V_COLNORM), w(1, V_STEP), spare)
      if (.not. all(w(:, V_COLNORM) <= huge(1.0_wp))) return
      do j = 1, n
         r(j, j) = w(j, V_SCRATCH)
         w(j, V_QTF) = spare(j)
      end do
   end subroutine factored_jacobian

end module leastsq_dense
