!> A fit of any problem made of C functions, with any settings.
!>
!> lmdif and lmder have MINPACK's arguments; fit_record has lm_core's state and a
!> record of functions (core.h: lsq_problem), most of which may be NULL.
!>
!> Public: problem_record_t, fit_record.  Its data is m-sized.
module leastsq_problem_record
   use, intrinsic :: iso_c_binding, only: c_associated, c_f_pointer, c_f_procpointer, c_funptr, c_ptr
   use leastsq_kinds, only: wp, ik
   use leastsq_blocked, only: blocked_problem_t, blocked_solver_t, SOLVE_BY_BLOCKS
   use leastsq_callbacks, only: difference_problem_t, jacobian_problem_t
   use leastsq_fdjac2, only: differences_t
   use leastsq_lm_core, only: lm_state_t
   use leastsq_lm_drive, only: problem_t, lm_drive
   implicit none (type, external)
   private
   public :: problem_record_t, fit_record

   type, bind(c) :: problem_record_t
      type(c_ptr) :: data                         !< every function's last argument
      type(differences_t) :: differences          !< if there is no Jacobian function
      type(c_funptr) :: watch                     !< watch_c, or NULL
      ! Dense
      type(c_funptr) :: residual                  !< residual_c
      type(c_funptr) :: jacobian                  !< jacobian_c; NULL: differences
      type(c_funptr) :: weigh                     !< weigh_c, or NULL
      type(c_ptr) :: weighed                      !< with weigh: m x 2 doubles
      type(c_ptr) :: kept                         !< with a strategy: m x n doubles, with weigh m more; or NULL
      ! Blocked, if factor is not NULL
      type(c_funptr) :: norm, difference, factor  !< norm_c, difference_c, factor_c
      type(c_funptr) :: settle                    !< settle_c, or NULL
      type(c_funptr) :: change                    !< change_c, or NULL
      type(c_ptr) :: fjac                         !< memory for an m x n difference Jacobian; or NULL
      type(c_funptr) :: damped                    !< solve_c
      type(c_ptr) :: damped_work                  !< its second-to-last argument
      type(c_ptr) :: team                         !< its last argument, or NULL
   end type problem_record_t

contains

   !> Like lm_drive: settings and start are in s and w; r and ldr are as the provider needs them.
   subroutine fit_record(record, m, s, w, fvec, r, ldr, ipvt, spare)
      type(problem_record_t), intent(in) :: record
      integer(ik), intent(in) :: m, ldr
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *), fvec(m), r(ldr, s%n), spare(m)
      integer(ik), intent(inout) :: ipvt(s%n)
      type(jacobian_problem_t) :: with_jacobian
      type(difference_problem_t) :: with_differences

      if (c_associated(record%factor)) then
         call fit_blocked(record, m, s, w, fvec, r, ldr, ipvt, spare)
      else if (c_associated(record%jacobian)) then
         call c_f_procpointer(record%jacobian, with_jacobian%jac)
         call fit_dense(record, with_jacobian, m, s, w, fvec, r, ldr, ipvt, spare)
      else
         call fit_dense(record, with_differences, m, s, w, fvec, r, ldr, ipvt, spare)
      end if
   end subroutine fit_record

   subroutine fit_dense(record, problem, m, s, w, fvec, r, ldr, ipvt, spare)
      type(problem_record_t), intent(in) :: record
      class(difference_problem_t), intent(inout) :: problem
      integer(ik), intent(in) :: m, ldr
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *), fvec(m), r(ldr, s%n), spare(m)
      integer(ik), intent(inout) :: ipvt(s%n)

      problem%data = record%data
      problem%how = record%differences
      call c_f_procpointer(record%residual, problem%fcn)
      if (c_associated(record%weigh)) then
         call c_f_procpointer(record%weigh, problem%weigh)
         call c_f_pointer(record%weighed, problem%weighed, [m, 2_ik])
      end if
      if (c_associated(record%kept)) call c_f_pointer(record%kept, problem%kept, &
         [m, s%n + merge(1_ik, 0_ik, c_associated(record%weigh))])
      call set_watch(record, problem)
      call lm_drive(problem, m, s%n, s, w, fvec, r, ldr, ipvt, spare)
   end subroutine fit_dense

   subroutine fit_blocked(record, m, s, w, fvec, r, ldr, ipvt, spare)
      type(problem_record_t), intent(in) :: record
      integer(ik), intent(in) :: m, ldr
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *), fvec(m), r(ldr, s%n), spare(m)
      integer(ik), intent(inout) :: ipvt(s%n)
      type(blocked_problem_t) :: problem
      type(blocked_solver_t) :: solver

      problem%data = record%data
      problem%how = record%differences
      problem%fjac = record%fjac
      call c_f_procpointer(record%norm, problem%norm)
      if (c_associated(record%settle)) call c_f_procpointer(record%settle, problem%take)
      if (c_associated(record%change)) call c_f_procpointer(record%change, problem%changed)
      call c_f_procpointer(record%difference, problem%differ)
      call c_f_procpointer(record%factor, problem%factor)
      call set_watch(record, problem)
      if (s%n < SOLVE_BY_BLOCKS) then
         call lm_drive(problem, m, s%n, s, w, fvec, r, ldr, ipvt, spare)
      else
         solver%work = record%damped_work
         solver%team = record%team
         call c_f_procpointer(record%damped, solver%by_blocks)
         call lm_drive(problem, m, s%n, s, w, fvec, r, ldr, ipvt, spare, solver)
      end if
   end subroutine fit_blocked

   subroutine set_watch(record, problem)
      type(problem_record_t), intent(in) :: record
      class(problem_t), intent(inout) :: problem

      if (.not. c_associated(record%watch)) return
      call c_f_procpointer(record%watch, problem%watch)
      problem%watch_data = record%data
   end subroutine set_watch

end module leastsq_problem_record
