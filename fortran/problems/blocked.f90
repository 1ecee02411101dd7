!> The blocked provider: R and Q'f from chunks of rows, by C functions.
!>
!> For long residual vectors.  The rows stay in the caller's arrays, so the
!> caller folds them into a triangle (tsqr.F90). The problem defined here asks for that
!> triangle, in the same loop as any other problem.
!>
!> Public: the C signatures, blocked_problem_t, blocked_solver_t.  Its data is m-sized.
module leastsq_blocked
   use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_f_pointer, c_int, c_int64_t, &
      c_null_ptr, c_ptr
   use leastsq_kinds, only: wp, ik, sk
   use leastsq_fdjac2, only: differences_t, fdjac2
   use leastsq_lm_core, only: V_COLNORM, V_QTF, V_SCRATCH
   use leastsq_lm_drive, only: problem_t
   use leastsq_qrsolv, only: damped_solver_t
   implicit none (type, external)
   private
   public :: norm_c, settle_c, difference_c, factor_c, change_c, solve_c
   public :: blocked_problem_t, blocked_solver_t, SOLVE_BY_BLOCKS

   abstract interface
      !> fvec = f(x) and its norm.
      function norm_c(m, n, x, fvec, fnorm, data) bind(c) result(status)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m, n
         real(c_double), intent(in) :: x(n)
         real(c_double), intent(out) :: fvec(m), fnorm
         type(c_ptr), value :: data
         integer(c_int) :: status
      end function norm_c

      !> Called once the last trial is accepted or rejected.  If it is accepted and norm
      !> kept its residuals elsewhere, copy them into fvec.
      subroutine settle_c(m, accepted, fvec, data) bind(c)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m
         integer(c_int), value :: accepted
         real(c_double), intent(inout) :: fvec(m)
         type(c_ptr), value :: data
      end subroutine settle_c

      !> column = (f(x) − fvec)/h.
      function difference_c(m, n, x, fvec, h, column, data) bind(c) result(status)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m, n
         real(c_double), intent(in) :: x(n), fvec(m)
         real(c_double), value :: h
         real(c_double), intent(out) :: column(m)
         type(c_ptr), value :: data
         integer(c_int) :: status
      end function difference_c

      !> R, ipvt, Q'f and column norms of J at x, where f is fvec.  J is fjac; if that is
      !> NULL, this function makes J.  With `before`, also change = Jᵀ(before − f).
      function factor_c(m, n, x, fvec, fjac, r, ldr, ipvt, qtf, colnorm, before, change, data) &
         bind(c) result(status)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m, n, ldr
         real(c_double), intent(in) :: x(n), fvec(m)
         type(c_ptr), value :: fjac, data
         real(c_double), intent(inout) :: r(ldr, n)
         integer(c_int64_t), intent(inout) :: ipvt(n)
         real(c_double), intent(inout) :: qtf(n), colnorm(n)
         real(c_double), intent(in), optional :: before(m)
         real(c_double), intent(inout), optional :: change(n)
         integer(c_int) :: status
      end function factor_c

      !> change = Jᵀ(other − fvec), with J of the last model.  Returns 0 if J is no longer available.
      function change_c(m, n, fvec, other, change, data) bind(c) result(answered)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m, n
         real(c_double), intent(in) :: fvec(m), other(m)
         real(c_double), intent(inout) :: change(n)
         type(c_ptr), value :: data
         integer(c_int) :: answered
      end function change_c

      !> qrsolv by blocks (triangle.F90); `work` is an accumulator's, `team` a team of threads or
      !> NULL.  The result depends on the arguments alone.
      pure subroutine solve_c(n, r, ldr, ipvt, diag, qtb, x, sdiag, wa, work, team) bind(c)
         import :: c_double, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: n, ldr
         real(c_double), intent(inout) :: r(ldr, n)
         integer(c_int64_t), intent(in) :: ipvt(n)
         real(c_double), intent(in) :: diag(n), qtb(n)
         real(c_double), intent(out) :: x(n), sdiag(n), wa(n)
         type(c_ptr), value :: work, team
      end subroutine solve_c
   end interface

   !> From this many parameters on, qrsolv by blocks is faster than rotations.
   integer(ik), parameter :: SOLVE_BY_BLOCKS = 64

   type, extends(damped_solver_t) :: blocked_solver_t
      procedure(solve_c), pointer, nopass :: by_blocks => null()
      type(c_ptr) :: work = c_null_ptr, team = c_null_ptr
   contains
      procedure :: solve
   end type blocked_solver_t

   type, extends(problem_t) :: blocked_problem_t
      procedure(norm_c), pointer, nopass :: norm => null()
      procedure(settle_c), pointer, nopass :: take => null()      !< or not associated
      procedure(difference_c), pointer, nopass :: differ => null()
      procedure(factor_c), pointer, nopass :: factor => null()
      procedure(change_c), pointer, nopass :: changed => null()   !< or not associated
      type(c_ptr) :: data = c_null_ptr
      type(c_ptr) :: fjac = c_null_ptr            !< memory for an m x n difference Jacobian; or NULL
      type(differences_t) :: how
   contains
      procedure :: residual
      procedure :: residual_norm
      procedure :: settle
      procedure :: difference
      procedure :: model
      procedure :: change => change_by_rows
   end type blocked_problem_t

contains

   !> damped_solver_t's procedure: qrsolv by blocks.
   pure subroutine solve(self, n, r, ldr, ipvt, diag, qtb, x, sdiag, wa)
      class(blocked_solver_t), intent(in) :: self
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: diag(n), qtb(n)
      real(wp), intent(out) :: x(n), sdiag(n), wa(n)

      call self%by_blocks(n, r, ldr, ipvt, diag, qtb, x, sdiag, wa, self%work, self%team)
   end subroutine solve

   subroutine residual(self, m, n, x, f, status)
      class(blocked_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(out) :: f(m)
      integer(sk), intent(out) :: status
      real(wp) :: fnorm

      status = self%norm(m, n, x, f, fnorm, self%data)
   end subroutine residual

   subroutine residual_norm(self, m, n, x, f, fnorm, status)
      class(blocked_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(out) :: f(m), fnorm
      integer(sk), intent(out) :: status

      status = self%norm(m, n, x, f, fnorm, self%data)
   end subroutine residual_norm

   subroutine settle(self, m, accepted, f)
      class(blocked_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m
      logical, intent(in) :: accepted
      real(wp), intent(inout) :: f(m)

      if (associated(self%take)) call self%take(m, merge(1_c_int, 0_c_int, accepted), f, self%data)
   end subroutine settle

   subroutine difference(self, m, n, moved, f, h, column, status)
      class(blocked_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: moved(n), f(m), h
      real(wp), intent(out) :: column(m)
      integer(sk), intent(out) :: status

      status = self%differ(m, n, moved, f, h, column, self%data)
   end subroutine difference

   subroutine model(self, m, n, x, f, r, ldr, ipvt, w, spare, cost, status)
      class(blocked_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n, ldr
      real(wp), intent(in) :: x(n), f(m)
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: w(n, *)
      real(wp), intent(inout) :: spare(m)
      integer(ik), intent(out) :: cost
      integer(sk), intent(out) :: status
      real(wp), pointer, contiguous :: fjac(:, :)

      cost = 0
      if (c_associated(self%fjac)) then
         call c_f_pointer(self%fjac, fjac, [m, n])
         call fdjac2(self, m, n, x, f, fjac, self%how, w(1, V_SCRATCH), cost, status)
         if (status /= 0) return
      end if
      if (self%change_column > 0) then
         status = self%factor(m, n, x, f, self%fjac, r, ldr, ipvt, w(1, V_QTF), w(1, V_COLNORM), &
            spare, w(1, self%change_column), self%data)
         self%past_told = status == 0
      else
         status = self%factor(m, n, x, f, self%fjac, r, ldr, ipvt, w(1, V_QTF), w(1, V_COLNORM), &
            data=self%data)
      end if
   end subroutine model

   subroutine change_by_rows(self, m, n, f, f_other, change, answered)
      class(blocked_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: f(m), f_other(m)
      real(wp), intent(inout) :: change(n)
      logical, intent(out) :: answered

      answered = associated(self%changed)
      if (answered) answered = self%changed(m, n, f, f_other, change, self%data) /= 0
   end subroutine change_by_rows

end module leastsq_blocked
