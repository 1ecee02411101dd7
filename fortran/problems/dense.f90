!> The dense provider: the whole Jacobian in memory, factored in place.
!>
!> MINPACK's way (ANL-80-74, lmder and lmdif), and its bits: r is the m x n
!> Jacobian, which becomes qrfac's factors.  With a robust loss, the norm is that of
!> transformed residuals, and the rows of J and f in the model are weighted.
!>
!> Public: dense_problem_t, weigh_c, dense_model, change_along.  Its data is m-sized.
module leastsq_dense
   use, intrinsic :: iso_c_binding, only: c_double, c_int, c_int64_t, c_ptr
   use leastsq_kinds, only: wp, ik, sk
   use leastsq_enorm, only: enorm
   use leastsq_qrfac, only: qrfac
   use leastsq_lm_core, only: V_COLNORM, V_QTF, V_SCRATCH
   use leastsq_lm_drive, only: problem_t
   implicit none (type, external)
   private
   public :: dense_problem_t, weigh_c, dense_model, change_along

   type, abstract, extends(problem_t) :: dense_problem_t
      type(c_ptr) :: data                         !< the C functions' last argument
      procedure(weigh_c), pointer, nopass :: weigh => null()   !< a robust loss, if any
      real(wp), pointer, contiguous :: weighed(:, :) => null() !< with a loss: weigh_c's m x 2 output
      real(wp), pointer, contiguous :: kept(:, :) => null()    !< with a strategy: J as factored, and the weights of its rows
   contains
      procedure(jacobian_i), deferred :: jacobian
      procedure :: residual_norm => weighed_norm
      procedure :: model => factored_jacobian
      procedure :: change => change_by_jacobian
   end type dense_problem_t

   abstract interface
      !> weighed(:, 1) = the residuals whose squares are the loss; for the model, the
      !> model's residuals, and weighed(:, 2) = the weights of the rows of J.
      function weigh_c(m, f, weighed, model, data) bind(c) result(status)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m
         real(c_double), intent(in) :: f(m)
         real(c_double), intent(inout) :: weighed(m, 2)
         integer(c_int), value :: model            !< 0 or 1
         type(c_ptr), value :: data
         integer(c_int) :: status
      end function weigh_c

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

   !> f, and ‖f‖ or the square root of its loss.
   subroutine weighed_norm(self, m, n, x, f, fnorm, status)
      class(dense_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(out) :: f(m)
      real(wp), intent(out) :: fnorm
      integer(sk), intent(out) :: status

      fnorm = 0
      call self%residual(m, n, x, f, status)
      if (status /= 0) return
      if (.not. associated(self%weigh)) then
         fnorm = enorm(m, f)
         return
      end if
      status = self%weigh(m, f, self%weighed, 0_c_int, self%data)
      if (status == 0) fnorm = enorm(m, self%weighed(:, 1))
   end subroutine weighed_norm

   !> problem_t's `model`; ldr is m.
   subroutine factored_jacobian(self, m, n, x, f, r, ldr, ipvt, w, spare, cost, status)
      class(dense_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n, ldr
      real(wp), intent(in) :: x(n), f(m)
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: w(n, *)
      real(wp), intent(inout) :: spare(m)
      integer(ik), intent(out) :: cost
      integer(sk), intent(out) :: status
      integer(ik) :: j

      call self%jacobian(m, n, x, f, r, w(1, V_SCRATCH), cost, status)
      if (status /= 0) return
      if (associated(self%weigh)) then
         status = self%weigh(m, f, self%weighed, 1_c_int, self%data)
         if (status /= 0) return
         do j = 1, n
            call weight(m, self%weighed(:, 2), r(1, j))
         end do
      end if
      if (associated(self%kept)) then
         call copy(m*n, r, self%kept)
         if (associated(self%weigh)) self%kept(:, n + 1) = self%weighed(:, 2)
         if (self%change_column > 0) call self%change(m, n, f, spare, w(1, self%change_column), self%past_told)
      end if
      if (associated(self%weigh)) then
         spare = self%weighed(:, 1)
      else
         spare = f
      end if
      call dense_model(m, n, r, spare, ipvt, w(1, V_QTF), w(1, V_COLNORM), w(1, V_SCRATCH))
   end subroutine factored_jacobian

   !> The model of J and f: R, its permutation, Q'f and the norms of J's columns, all with
   !> MINPACK's bits.  If J is not finite, a column norm is not, and fjac is still J.
   pure subroutine dense_model(m, n, fjac, f, ipvt, qtf, colnorm, work)
      integer(ik), intent(in) :: m, n             !< m >= n
      real(wp), intent(inout) :: fjac(m, n)       !< J; then R in its upper triangle
      real(wp), intent(inout) :: f(m)             !< f; then Q'f
      integer(ik), intent(out) :: ipvt(n)         !< column ipvt(j) of J became R's j-th
      real(wp), intent(out) :: qtf(n)             !< the first n elements of Q'f
      real(wp), intent(out) :: colnorm(n)
      real(wp), intent(out) :: work(n, 2)         !< scratch
      integer(ik) :: j

      call qrfac(m, n, fjac, m, .true., ipvt, work(1, 1), colnorm, work(1, 2), f)
      do j = 1, n
         qtf(j) = f(j)
      end do
      if (.not. all(colnorm <= huge(1.0_wp))) return
      do j = 1, n
         fjac(j, j) = work(j, 1)
      end do
   end subroutine dense_model

   !> problem_t's `change`, for the raw residuals with the model's weights.
   subroutine change_by_jacobian(self, m, n, f, f_other, change, answered)
      class(dense_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: f(m), f_other(m)
      real(wp), intent(inout) :: change(n)
      logical, intent(out) :: answered

      answered = associated(self%kept)
      if (.not. answered) return
      if (associated(self%weigh)) then
         call change_along(m, n, self%kept, f, f_other, change, self%kept(:, n + 1))
      else
         call change_along(m, n, self%kept, f, f_other, change)
      end if
   end subroutine change_by_jacobian

   !> change = Jᵀ(f_other − f), with the difference weighted like the rows of J.  Each sum is split into lanes,
   !> because every addition of a single chain waits for the previous one.
   pure subroutine change_along(m, n, jac, f, f_other, change, weights)
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: jac(m, n), f(m), f_other(m)
      real(wp), intent(out) :: change(n)
      real(wp), intent(in), optional :: weights(m)
      integer(ik), parameter :: PIECE = 64, LANES = 4
      real(wp) :: difference(PIECE), lane(LANES)
      integer(ik) :: first, count, whole, i, j

      change = 0
      do first = 0, m - 1, PIECE
         count = min(PIECE, m - first)
         do i = 1, count
            difference(i) = f_other(first + i) - f(first + i)
         end do
         if (present(weights)) difference(1:count) = weights(first + 1:first + count)*difference(1:count)
         whole = count - modulo(count, LANES)
         do j = 1, n
            lane = 0
            do i = 1, whole, LANES
               lane = lane + jac(first + i:first + i + LANES - 1, j)*difference(i:i + LANES - 1)
            end do
            do i = whole + 1, count
               lane(1) = lane(1) + jac(first + i, j)*difference(i)
            end do
            change(j) = change(j) + ((lane(1) + lane(2)) + (lane(3) + lane(4)))
         end do
      end do
   end subroutine change_along

   !> Copy a matrix as a contiguous vector.
   pure subroutine copy(count, from, to)
      integer(ik), intent(in) :: count
      real(wp), intent(in) :: from(count)
      real(wp), intent(inout) :: to(*)

      to(1:count) = from
   end subroutine copy

   pure subroutine weight(m, weights, column)
      integer(ik), intent(in) :: m
      real(wp), intent(in) :: weights(m)
      real(wp), intent(inout) :: column(m)
      integer(ik) :: i

      do i = 1, m
         column(i) = weights(i)*column(i)
      end do
   end subroutine weight

end module leastsq_dense
