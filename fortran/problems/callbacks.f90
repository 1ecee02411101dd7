!> Problems whose residual and Jacobian are C functions.
!>
!> The C signatures that users implement for compiled residuals, and the two problems
!> made of them: one with forward differences, one with a Jacobian function.
!>
!> Public: residual_c, jacobian_c, difference_problem_t, jacobian_problem_t.
!> Its data is m-sized.
module leastsq_callbacks
   use, intrinsic :: iso_c_binding, only: c_double, c_int, c_int64_t, c_ptr
   use leastsq_kinds, only: wp, ik, sk
   use leastsq_dense, only: dense_problem_t
   use leastsq_fdjac2, only: differences_t, fdjac2
   implicit none (type, external)
   private
   public :: residual_c, jacobian_c, difference_problem_t, jacobian_problem_t

   abstract interface
      function residual_c(m, n, x, fvec, data) bind(c) result(status)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m, n
         real(c_double), intent(in) :: x(n)
         real(c_double), intent(out) :: fvec(m)
         type(c_ptr), value :: data
         integer(c_int) :: status
      end function residual_c

      function jacobian_c(m, n, x, fjac, data) bind(c) result(status)
         import :: c_double, c_int, c_int64_t, c_ptr
         implicit none (type, external)
         integer(c_int64_t), value :: m, n
         real(c_double), intent(in) :: x(n)
         real(c_double), intent(out) :: fjac(m, n)
         type(c_ptr), value :: data
         integer(c_int) :: status
      end function jacobian_c
   end interface

   !> f by a C function, J by forward differences of it.
   type, extends(dense_problem_t) :: difference_problem_t
      procedure(residual_c), pointer, nopass :: fcn => null()
      type(differences_t) :: how
   contains
      procedure :: residual => call_residual
      procedure :: jacobian => difference_jacobian
   end type difference_problem_t

   !> f and J by C functions.
   type, extends(difference_problem_t) :: jacobian_problem_t
      procedure(jacobian_c), pointer, nopass :: jac => null()
   contains
      procedure :: jacobian => call_jacobian
   end type jacobian_problem_t

contains

   subroutine call_residual(self, m, n, x, f, status)
      class(difference_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(out) :: f(m)
      integer(sk), intent(out) :: status

      status = self%fcn(m, n, x, f, self%data)
   end subroutine call_residual

   subroutine difference_jacobian(self, m, n, x, f, fjac, scratch, cost, status)
      class(difference_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n), f(m)
      real(wp), intent(out) :: fjac(m, n)
      real(wp), intent(out) :: scratch(n)
      integer(ik), intent(out) :: cost
      integer(sk), intent(out) :: status

      call fdjac2(self, m, n, x, f, fjac, self%how, scratch, cost, status)
   end subroutine difference_jacobian

   subroutine call_jacobian(self, m, n, x, f, fjac, scratch, cost, status)
      class(jacobian_problem_t), intent(inout) :: self
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n), f(m)
      real(wp), intent(out) :: fjac(m, n)
      real(wp), intent(out) :: scratch(n)
      integer(ik), intent(out) :: cost
      integer(sk), intent(out) :: status

      status = self%jac(m, n, x, fjac, self%data)
      scratch = 0
      cost = 0
   end subroutine call_jacobian

end module leastsq_callbacks
