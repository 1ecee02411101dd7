#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> A team of threads that work on one task, and the ways in which they wait for each other.
!>
!> The caller starts and ends the threads (kernels.h: lsq_team), and each runs a procedure
!> of ours.  Each thread has a counter that only grows, and can wait until the counter of
!> another has reached a value.  A null pointer is a team of one thread, which never waits.
!> wait_turn and pass_on keep the order of blocks that are folded as a pipeline.
!>
!> Public: team_t, body_c, team_size, run_team, await, reach, meet, ALL_DONE; order_t, wait_turn,
!> pass_on, finished.  No data but counters.
module TAGGED(leastsq_team)
   use, intrinsic :: iso_c_binding, only: ik => c_int64_t, c_int, c_ptr, c_funptr, c_funloc, &
      c_associated, c_f_pointer, c_f_procpointer, c_null_ptr
   implicit none (type, external)
   private
   public :: team_t, body_c, team_size, run_team, await, reach, meet
   public :: order_t, wait_turn, pass_on, finished

   type, bind(c) :: team_t
      integer(ik) :: size            !< threads, >= 1
      integer(ik) :: room_size       !< doubles in each room, >= lsq_tsqr_room_size
      type(c_ptr) :: room            !< one for each thread except number 0
      type(c_funptr) :: run, await, reach
   end type team_t

   !> The number of a block, counted from 0, and the thread that folds it.  A block follows
   !> the one before it through the triangle, one group of panels behind.
   type :: order_t
      type(c_ptr) :: team = c_null_ptr
      integer(ik) :: number = 0     !< of the thread in the team
      integer(ik) :: block = 0      !< folded by thread mod(block, size of the team)
   end type order_t

   !> A block counts this much in a thread's counter; each of its columns counts one.
   integer(ik), parameter :: COUNT_OF_BLOCK = 2_ik**32
   !> More than the counter of any block.
   integer(ik), parameter, public :: ALL_DONE = huge(0_ik)

   abstract interface
      !> The work of thread `number`; 0 is the calling thread.
      subroutine body_c(number, data) bind(c)
         import :: ik, c_ptr
         implicit none (type, external)
         integer(ik), value :: number
         type(c_ptr), value :: data
      end subroutine body_c

      !> Run it in each of the team's threads; returns when all have finished.
      subroutine run_c(team, body, data) bind(c)
         import :: c_funptr, c_ptr
         implicit none (type, external)
         type(c_ptr), value :: team, data
         type(c_funptr), value :: body
      end subroutine run_c

      !> Thread `number` waits until the counter of `whose` is at least `value`, or sets its
      !> own counter to it.  A result other than 0 means that the work is cancelled.
      function count_c(team, number, whose, value) bind(c) result(cancelled)
         import :: ik, c_int, c_ptr
         implicit none (type, external)
         type(c_ptr), value :: team
         integer(ik), value :: number, whose, value
         integer(c_int) :: cancelled
      end function count_c
   end interface

contains

   function team_size(team) result(threads)
      type(c_ptr), intent(in) :: team
      integer(ik) :: threads
      type(team_t), pointer :: g

      threads = 1
      if (.not. c_associated(team)) return
      call c_f_pointer(team, g)
      threads = g%size
   end function team_size

   subroutine run_team(team, body, data)
      type(c_ptr), intent(in) :: team, data
      procedure(body_c) :: body
      type(team_t), pointer :: g
      procedure(run_c), pointer :: run

      if (.not. c_associated(team)) then
         call body(0_ik, data)
         return
      end if
      call c_f_pointer(team, g)
      call c_f_procpointer(g%run, run)
      call run(team, c_funloc(body), data)
   end subroutine run_team

   !> Wait for the counter of another thread.
   function await(team, number, whose, value) result(cancelled)
      type(c_ptr), intent(in) :: team
      integer(ik), intent(in) :: number, whose, value
      logical :: cancelled
      type(team_t), pointer :: g
      procedure(count_c), pointer :: count

      cancelled = .false.
      if (.not. c_associated(team)) return
      call c_f_pointer(team, g)
      call c_f_procpointer(g%await, count)
      cancelled = count(team, number, whose, value) /= 0
   end function await

   !> Set this thread's counter, which the others see.
   function reach(team, number, value) result(cancelled)
      type(c_ptr), intent(in) :: team
      integer(ik), intent(in) :: number, value
      logical :: cancelled
      type(team_t), pointer :: g
      procedure(count_c), pointer :: count

      cancelled = .false.
      if (.not. c_associated(team)) return
      call c_f_pointer(team, g)
      call c_f_procpointer(g%reach, count)
      cancelled = count(team, number, number, value) /= 0
   end function reach

   !> Wait until all threads of the team have called this.
   function meet(team, number, value) result(cancelled)
      type(c_ptr), intent(in) :: team
      integer(ik), intent(in) :: number, value    !< larger than any counter before
      logical :: cancelled
      integer(ik) :: k

      cancelled = reach(team, number, value)
      do k = 0, team_size(team) - 1
         if (k /= number .and. .not. cancelled) cancelled = await(team, number, k, value)
      end do
   end function meet

   !> Wait until the previous block has finished with these columns.
   function wait_turn(order, column) result(cancelled)
      type(order_t), intent(in) :: order
      integer(ik), intent(in) :: column
      logical :: cancelled
      integer(ik) :: ahead

      ahead = order%block - 1
      cancelled = .false.
      if (ahead >= 0) cancelled = await(order%team, order%number, &
         mod(ahead, team_size(order%team)), COUNT_OF_BLOCK*ahead + column)
   end function wait_turn

   !> Tell the next block that this one has finished with these columns.
   function pass_on(order, column) result(cancelled)
      type(order_t), intent(in) :: order
      integer(ik), intent(in) :: column
      logical :: cancelled

      cancelled = reach(order%team, order%number, COUNT_OF_BLOCK*order%block + column)
   end function pass_on

   !> Tell the next block that this one has finished with all columns.
   function finished(order) result(cancelled)
      type(order_t), intent(in) :: order
      logical :: cancelled

      cancelled = pass_on(order, COUNT_OF_BLOCK - 1)
   end function finished

end module TAGGED(leastsq_team)
