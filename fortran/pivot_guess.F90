#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> A good guess at the pivot order of a large triangle, at blocked speed.
!>
!> Pivoted QR must know the norms of all remaining columns before each step, so
!> half of its work reads the whole remaining matrix for one product.  Cholesky
!> with diagonal pivoting of G = R'R takes the same pivots (both take the largest
!> remaining norm; Higham, Accuracy and Stability of Numerical Algorithms, §10.3)
!> and needs of each step one column only; the rest waits for a matrix product.
!> G has the condition number squared, so this is a guess: triangle.F90 checks it
!> on the triangle that it leads to, and the guess ends where digits run out.
!>
!> Public: guess_pivots.  Its data is n-sized.
module TAGGED(leastsq_pivot_guess)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   use TAGGED(leastsq_gram), only: gram, take_off
   implicit none (type, external)
   private
   public :: guess_pivots

   integer(ik), parameter :: PANEL = 32       !< steps between two updates of the rest
   integer(ik), parameter :: STRIP = 64       !< rows of a panel that stay in L1
   !> A remaining square norm this small against the column's own has lost half
   !> of its digits: no guess is made from there on.
   real(wp), parameter :: TRUSTED = 2.0_wp**(-26)

contains

   !> The first `known` pivots of a.  The exchanges that bring them to the front,
   !> column j with column g(j, n+3), j = 1 to known, are left in g.
   pure subroutine guess_pivots(n, a, lda, known, g)
      integer(ik), intent(in) :: n, lda
      real(wp), intent(in) :: a(lda, n)        !< upper triangle
      integer(ik), intent(out) :: known        !< 0 to n
      !> Columns 1 to n: G, then its factor.  n+1: square norms of a's columns;
      !> n+2: what remains of them; n+3: the exchanges.
      real(wp), intent(inout) :: g(n, n + 3)
      integer(ik) :: j, k, chosen, start
      real(wp) :: root
      logical :: trusted_pivot

      call gram(n, a, lda, n, g)
      do j = 1, n
         g(j, n + 1) = g(j, j)
         g(j, n + 2) = g(j, j)
      end do
      start = 1
      known = 0
      do j = 1, n
         chosen = j
         do k = j + 1, n
            if (g(k, n + 2) > g(chosen, n + 2)) chosen = k
         end do
         trusted_pivot = g(chosen, n + 2) > TRUSTED*g(chosen, n + 1)
         if (.not. trusted_pivot) return
         g(j, n + 3) = real(chosen, wp)
         known = j
         call exchange(n, j, chosen, g)
         root = sqrt(g(j, n + 2))
         g(j, j) = root
         do k = start, j - 1
            g(j + 1:n, j) = g(j + 1:n, j) - g(j, k)*g(j + 1:n, k)
         end do
         do k = j + 1, n
            g(k, j) = g(k, j)/root
            g(k, n + 2) = g(k, n + 2) - g(k, j)**2
         end do
         if (j - start + 1 == PANEL) then
            call update_rest(n, start, g)
            start = j + 1
         end if
      end do
   end subroutine guess_pivots

   !> Rows and columns j and p of a symmetric matrix change places; only the
   !> lower triangle is kept.
   pure subroutine exchange(n, j, p, g)
      integer(ik), intent(in) :: n, j, p       !< j <= p
      real(wp), intent(inout) :: g(n, n + 3)
      real(wp) :: kept
      integer(ik) :: i

      if (j == p) return
      do i = 1, j - 1
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

   !> Take the PANEL columns from `start` on off the lower triangle after them, in
   !> strips of rows that stay in L1.
   pure subroutine update_rest(n, start, g)
      integer(ik), intent(in) :: n, start
      real(wp), intent(inout) :: g(n, n + 3)
      integer(ik) :: c, k, from, last, top
      real(wp) :: w(4, 3)

      do from = start + PANEL, n, STRIP
         last = min(from + STRIP - 1, n)
         do c = start + PANEL, last, 3
            top = max(c, from)
            if (c + 2 <= n) then
               do k = start, start + PANEL - 1, 4
                  w = transpose(g(c:c + 2, k:k + 3))
                  call take_off(last - top + 1, n, g(top, k), w, n, g(top, c))
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
