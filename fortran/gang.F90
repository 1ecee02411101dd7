#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Threads that work on one thing: who they are, and how they wait for each other.
!>
!> The caller makes and ends the threads (tsqr.h: lsq_gang); a body of ours runs in
!> each.  Each has a counter that only grows: one waits until another's has
!> reached a value.  No gang (a null pointer): one thread, which never waits.
!>
!> Public: gang_t, body_c, as_gang, gang_size, run_gang, await, reach.
module TAGGED(leastsq_gang)
   use, intrinsic :: iso_c_binding, only: ik => c_int64_t, c_int, c_ptr, c_funptr, c_funloc, &
      c_associated, c_f_pointer, c_f_procpointer, c_loc
   implicit none (type, external)
   private
   public :: gang_t, body_c, gang_size, run_gang, await, reach

   type, bind(c) :: gang_t
      integer(ik) :: size            !< threads, >= 1
      integer(ik) :: room_size       !< doubles in each room, >= lsq_tsqr_room_size
      type(c_ptr) :: room            !< one for each thread but number 0
      type(c_funptr) :: run, await, reach
   end type gang_t

   abstract interface
      !> What a thread does; number 0 is the calling one.
      subroutine body_c(number, data) bind(c)
         import :: ik, c_ptr
         implicit none (type, external)
         integer(ik), value :: number
         type(c_ptr), value :: data
      end subroutine body_c

      !> Run it in each of the gang's threads; back when all are.
      subroutine run_c(gang, body, data) bind(c)
         import :: c_funptr, c_ptr
         implicit none (type, external)
         type(c_ptr), value :: gang, data
         type(c_funptr), value :: body
      end subroutine run_c

      !> Thread `number` waits until the counter of `whose` is at least `value`, or
      !> sets its own to it.  Not 0: give up, it is cancelled.
      function count_c(gang, number, whose, value) bind(c) result(cancelled)
         import :: ik, c_int, c_ptr
         implicit none (type, external)
         type(c_ptr), value :: gang
         integer(ik), value :: number, whose, value
         integer(c_int) :: cancelled
      end function count_c
   end interface

contains

   function gang_size(gang) result(threads)
      type(c_ptr), intent(in) :: gang
      integer(ik) :: threads
      type(gang_t), pointer :: g

      threads = 1
      if (.not. c_associated(gang)) return
      call c_f_pointer(gang, g)
      threads = g%size
   end function gang_size

   subroutine run_gang(gang, body, data)
      type(c_ptr), intent(in) :: gang, data
      procedure(body_c) :: body
      type(gang_t), pointer :: g
      procedure(run_c), pointer :: run

      if (.not. c_associated(gang)) then
         call body(0_ik, data)
         return
      end if
      call c_f_pointer(gang, g)
      call c_f_procpointer(g%run, run)
      call run(gang, c_funloc(body), data)
   end subroutine run_gang

   !> Wait for another's counter.
   function await(gang, number, whose, value) result(cancelled)
      type(c_ptr), intent(in) :: gang
      integer(ik), intent(in) :: number, whose, value
      logical :: cancelled
      type(gang_t), pointer :: g
      procedure(count_c), pointer :: count

      cancelled = .false.
      if (.not. c_associated(gang)) return
      call c_f_pointer(gang, g)
      call c_f_procpointer(g%await, count)
      cancelled = count(gang, number, whose, value) /= 0
   end function await

   !> Let the others see one's own counter.
   function reach(gang, number, value) result(cancelled)
      type(c_ptr), intent(in) :: gang
      integer(ik), intent(in) :: number, value
      logical :: cancelled
      type(gang_t), pointer :: g
      procedure(count_c), pointer :: count

      cancelled = .false.
      if (.not. c_associated(gang)) return
      call c_f_pointer(gang, g)
      call c_f_procpointer(g%reach, count)
      cancelled = count(gang, number, number, value) /= 0
   end function reach

end module TAGGED(leastsq_gang)
