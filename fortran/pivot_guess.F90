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
   implicit none (type, external)
   private
   public :: guess_pivots

   integer(ik), parameter :: PANEL = 32       !< steps between two updates of the rest
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

      call gram(n, a, lda, g)
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

   !> Take the PANEL columns from `start` on off the lower triangle after them.
   pure subroutine update_rest(n, start, g)
      integer(ik), intent(in) :: n, start
      real(wp), intent(inout) :: g(n, n + 3)
      integer(ik) :: c, k

      c = start + PANEL
      do while (c + 2 <= n)
         do k = start, start + PANEL - 1, 4
            call take_off(n - c + 1, n, g(c, k), g(c, c))
         end do
         c = c + 3
      end do
      do c = c, n
         do k = start, start + PANEL - 1
            g(c:n, c) = g(c:n, c) - g(c, k)*g(c:n, k)
         end do
      end do
   end subroutine update_rest

   !> c(:, 1:3) = c - v v(1:3, :)', four columns of v.
   pure subroutine take_off(rows, ld, v, c)
      integer(ik), intent(in) :: rows, ld
      real(wp), intent(in) :: v(ld, 4)
      real(wp), intent(inout) :: c(ld, 3)
      real(wp) :: w(4, 3)
      integer(ik) :: i

      w = transpose(v(1:3, 1:4))
      !$omp simd
      do i = 1, rows
         c(i, 1) = c(i, 1) - v(i, 1)*w(1, 1) - v(i, 2)*w(2, 1) - v(i, 3)*w(3, 1) - v(i, 4)*w(4, 1)
         c(i, 2) = c(i, 2) - v(i, 1)*w(1, 2) - v(i, 2)*w(2, 2) - v(i, 3)*w(3, 2) - v(i, 4)*w(4, 2)
         c(i, 3) = c(i, 3) - v(i, 1)*w(1, 3) - v(i, 2)*w(2, 3) - v(i, 3)*w(3, 3) - v(i, 4)*w(4, 3)
      end do
   end subroutine take_off

   !> The lower triangle of a'a, a an upper triangle.
   pure subroutine gram(n, a, lda, g)
      integer(ik), intent(in) :: n, lda
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(inout) :: g(n, n + 3)
      integer(ik) :: j, k

      do j = 1, n - 2, 3
         do k = j, n - 3, 4
            call products(min(j + 2, n), lda, a(1, k), a(1, j), n, g(k, j))
         end do
         do k = k, n
            g(k, j) = product_of(j, a(1, k), a(1, j))
            g(k, j + 1) = product_of(j + 1, a(1, k), a(1, j + 1))
            g(k, j + 2) = product_of(j + 2, a(1, k), a(1, j + 2))
         end do
      end do
      do j = j, n
         do k = j, n
            g(k, j) = product_of(j, a(1, k), a(1, j))
         end do
      end do
   end subroutine gram

   !> g(1:4, 1:3) = the inner products of four columns with three.
   pure subroutine products(rows, lda, a, b, ldg, g)
      integer(ik), intent(in) :: rows, lda, ldg
      real(wp), intent(in) :: a(lda, 4), b(lda, 3)
      real(wp), intent(inout) :: g(ldg, 3)
      real(wp) :: g11, g21, g31, g41, g12, g22, g32, g42, g13, g23, g33, g43
      integer(ik) :: i

      g11 = 0; g21 = 0; g31 = 0; g41 = 0
      g12 = 0; g22 = 0; g32 = 0; g42 = 0
      g13 = 0; g23 = 0; g33 = 0; g43 = 0
      !$omp simd reduction(+: g11, g21, g31, g41, g12, g22, g32, g42, g13, g23, g33, g43)
      do i = 1, rows
         g11 = g11 + a(i, 1)*b(i, 1)
         g21 = g21 + a(i, 2)*b(i, 1)
         g31 = g31 + a(i, 3)*b(i, 1)
         g41 = g41 + a(i, 4)*b(i, 1)
         g12 = g12 + a(i, 1)*b(i, 2)
         g22 = g22 + a(i, 2)*b(i, 2)
         g32 = g32 + a(i, 3)*b(i, 2)
         g42 = g42 + a(i, 4)*b(i, 2)
         g13 = g13 + a(i, 1)*b(i, 3)
         g23 = g23 + a(i, 2)*b(i, 3)
         g33 = g33 + a(i, 3)*b(i, 3)
         g43 = g43 + a(i, 4)*b(i, 3)
      end do
      g(1:4, 1) = [g11, g21, g31, g41]
      g(1:4, 2) = [g12, g22, g32, g42]
      g(1:4, 3) = [g13, g23, g33, g43]
   end subroutine products

   pure function product_of(rows, a, b) result(total)
      integer(ik), intent(in) :: rows
      real(wp), intent(in) :: a(rows), b(rows)
      real(wp) :: total
      integer(ik) :: i

      total = 0
      !$omp simd reduction(+: total)
      do i = 1, rows
         total = total + a(i)*b(i)
      end do
   end function product_of

end module TAGGED(leastsq_pivot_guess)
