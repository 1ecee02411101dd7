#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> A good guess at the pivot order of a large triangle, at blocked speed.
!>
!> Pivoted QR needs the norms of all remaining columns before each step, so half of its
!> work reads the whole remaining matrix for one product.  Cholesky decomposition of
!> G = R'R with diagonal pivoting takes the same pivots (both take the largest
!> remaining norm; Higham, Accuracy and Stability of Numerical Algorithms, §10.3),
!> and needs only one column for each step; the other columns are updated later by a
!> matrix product.  G has the condition number squared, so this is a guess: triangle.F90
!> checks it on the triangle that it leads to, and the guess ends where digits run out.
!>
!> Public: guess_pivots.  The data is n-sized.
module TAGGED(leastsq_pivot_guess)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_ptr, c_f_pointer, c_loc
   use TAGGED(leastsq_team), only: team_size, run_team, await, reach
   use TAGGED(leastsq_gram), only: gram, take_off, FOUR
   implicit none (type, external)
   private
   public :: guess_pivots

   integer(ik), parameter :: PANEL = 32       !< steps between two updates of the other columns
   !> Rows of a panel that stay in L1, on whole cache lines.  A thread has the same strips
   !> in all panels, so that its part of G stays in its own cache.
   integer(ik), parameter :: STRIP = 64
   !> A remaining square norm this small relative to the column's own has lost half of its
   !> digits: the guess ends there.
   real(wp), parameter :: TRUSTED = 2.0_wp**(-26)

   !> Data that the threads share.
   type :: guess_t
      type(c_ptr) :: team
      integer(ik) :: n, lda, ldg
      type(c_ptr) :: a, g
      integer(ik) :: known = 0
      logical :: over = .false.     !< no more panels
   end type guess_t

contains

   !> Guess the first `known` pivots of a.  The exchanges that bring them to the front,
   !> column j with column g(j, n+3) for j = 1 to known, are returned in g.
   subroutine guess_pivots(team, n, a, lda, known, g, ldg)
      type(c_ptr), intent(in) :: team          !< kernels.h: lsq_team; or NULL
      integer(ik), intent(in) :: n, lda
      real(wp), intent(in), target :: a(lda, n)    !< upper triangle, zeros below
      integer(ik), intent(out) :: known        !< 0 to n
      integer(ik), intent(in) :: ldg           !< >= n, whole cache lines
      !> Columns 1 to n: G, then its factor.  n+1: square norms of a's columns;
      !> n+2: those of the remaining parts; n+3: the exchanges.
      real(wp), intent(inout), target :: g(ldg, n + 3)
      type(guess_t), target :: guess

      guess = guess_t(team, n, lda, ldg, c_loc(a), c_loc(g))
      call run_team(team, guess_share, c_loc(guess))
      known = guess%known
   end subroutine guess_pivots

   !> The work of one thread.  Its counter says: 1, its part of G is finished; 2p, panel p
   !> is finished (thread 0 only); 2p + 1, its part of the update by panel p is.
   subroutine guess_share(number, data) bind(c, name='')
      integer(ik), value :: number
      type(c_ptr), value :: data
      type(guess_t), pointer :: guess
      real(wp), pointer, contiguous :: a(:, :), g(:, :)
      integer(ik) :: p, sharers

      call c_f_pointer(data, guess)
      call c_f_pointer(guess%a, a, [guess%lda, guess%n])
      call c_f_pointer(guess%g, g, [guess%ldg, guess%n + 3])
      sharers = team_size(guess%team)
      call gram(guess%n, a, guess%lda, guess%ldg, g, number, sharers)
      if (reach(guess%team, number, 1_ik)) return
      if (number == 0) then
         call lead(guess, guess%n, guess%ldg, sharers, g)
         if (reach(guess%team, 0_ik, huge(p))) return
         return
      end if
      p = 1
      do
         if (await(guess%team, number, 0_ik, 2*p)) return
         if (guess%over) return
         call update_rest(guess%n, guess%ldg, 1 + (p - 1)*PANEL, g, number, sharers)
         if (reach(guess%team, number, 2*p + 1)) return
         p = p + 1
      end do
   end subroutine guess_share

   !> Wait until all other threads have reached this.
   function await_all(team, sharers, value) result(cancelled)
      type(c_ptr), intent(in) :: team
      integer(ik), intent(in) :: sharers, value
      logical :: cancelled
      integer(ik) :: k

      cancelled = .false.
      do k = 1, sharers - 1
         if (.not. cancelled) cancelled = await(team, 0_ik, k, value)
      end do
   end function await_all

   !> The steps of all panels, by thread 0.
   subroutine lead(guess, n, ldg, sharers, g)
      type(guess_t), pointer, intent(in) :: guess
      integer(ik), intent(in) :: n, ldg, sharers
      real(wp), intent(inout) :: g(ldg, n + 3)
      integer(ik) :: j, k, p, chosen, start
      real(wp) :: root
      logical :: trusted_pivot

      if (await_all(guess%team, sharers, 1_ik)) return
      do j = 1, n
         g(j, n + 1) = g(j, j)
         g(j, n + 2) = g(j, j)
      end do
      start = 1
      p = 1
      do j = 1, n
         chosen = j
         do k = j + 1, n
            if (g(k, n + 2) > g(chosen, n + 2)) chosen = k
         end do
         trusted_pivot = g(chosen, n + 2) > TRUSTED*g(chosen, n + 1)
         if (.not. trusted_pivot) exit
         g(j, n + 3) = real(chosen, wp)
         guess%known = j
         call exchange(n, start, j, chosen, ldg, g)
         root = sqrt(g(j, n + 2))
         g(j, j) = root
         do k = start, j - FOUR, FOUR
            call take_four(n - j, ldg, g(j, k), g(j, j))
         end do
         do k = k, j - 1
            g(j + 1:n, j) = g(j + 1:n, j) - g(j, k)*g(j + 1:n, k)
         end do
         do k = j + 1, n
            g(k, j) = g(k, j)/root
            g(k, n + 2) = g(k, n + 2) - g(k, j)**2
         end do
         if (j - start + 1 == PANEL) then
            if (reach(guess%team, 0_ik, 2*p)) exit
            call update_rest(n, ldg, start, g, 0_ik, sharers)
            if (await_all(guess%team, sharers, 2*p + 1)) exit
            start = j + 1
            p = p + 1
         end if
      end do
      guess%over = .true.
   end subroutine lead

   !> Exchange rows and columns j and p of a symmetric matrix, from column `start` on;
   !> earlier columns are no longer needed.  Only the lower triangle is stored.
   pure subroutine exchange(n, start, j, p, ldg, g)
      integer(ik), intent(in) :: n, start, j, p, ldg  !< start <= j <= p
      real(wp), intent(inout) :: g(ldg, n + 3)
      real(wp) :: kept
      integer(ik) :: i

      if (j == p) return
      do i = start, j - 1
         kept = g(j, i); g(j, i) = g(p, i); g(p, i) = kept
      end do
      do i = j + 1, p - 1
         kept = g(i, j); g(i, j) = g(p, i); g(p, i) = kept
      end do
      do i = p + 1, n
         kept = g(i, j); g(i, j) = g(i, p); g(i, p) = kept
      end do
      kept = g(j, j); g(j, j) = g(p, p); g(p, p) = kept
      do i = n + 1, n + 2
         kept = g(j, i); g(j, i) = g(p, i); g(p, i) = kept
      end do
   end subroutine exchange

   !> Subtract four columns, weighted by their own row 0, from another; row 0 stays.
   pure subroutine take_four(rows, ldg, v, c)
      integer(ik), intent(in) :: rows, ldg
      real(wp), intent(in) :: v(0:ldg - 1, FOUR)
      real(wp), intent(inout) :: c(0:rows)
      integer(ik) :: i

      !$omp simd
      do i = 1, rows
         c(i) = c(i) - v(i, 1)*v(0, 1) - v(i, 2)*v(0, 2) - v(i, 3)*v(0, 3) - v(i, 4)*v(0, 4)
      end do
   end subroutine take_four

   !> Subtract the product of the PANEL columns from `start` on from the lower triangle after
   !> them.  Thread k takes every size-th strip of rows; strips stay in L1.
   pure subroutine update_rest(n, ldg, start, g, number, sharers)
      integer(ik), intent(in) :: n, ldg, start, number, sharers
      real(wp), intent(inout) :: g(ldg, n + 3)
      integer(ik) :: strip_number, c, k, from, last, top
      real(wp) :: w(FOUR, 3)

      do strip_number = (start + PANEL - 1)/STRIP, (n - 1)/STRIP
         if (mod(strip_number, sharers) /= number) cycle
         from = max(strip_number*STRIP + 1, start + PANEL)
         last = min(strip_number*STRIP + STRIP, n)
         do c = start + PANEL, last, 3
            top = max(c, from)
            if (c + 2 <= n) then
               do k = start, start + PANEL - 1, FOUR
                  w = transpose(g(c:c + 2, k:k + FOUR - 1))
                  call take_off(last - top + 1, ldg, g(top, k), w, ldg, g(top, c))
               end do
            else
               do k = start, start + PANEL - 1
                  g(top:last, c) = g(top:last, c) - g(c, k)*g(top:last, k)
                  if (c < n) g(top:last, n) = g(top:last, n) - g(n, k)*g(top:last, k)
               end do
            end if
         end do
      end do
   end subroutine update_rest

end module TAGGED(leastsq_pivot_guess)
