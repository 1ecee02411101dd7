!> Column-pivoted Householder QR, operation for operation MINPACK's.
!>
!> A P = Q R (Businger and Golub 1965; Moré, LNM 630, 1978, §4).  Every sum runs
!> in MINPACK's order, so the results have MINPACK's bits.  A sum is a chain of
!> additions, each waiting for the one before; what is ours is what runs beside
!> it: a reflector's products with up to six columns, and the divisions that make
!> the reflector; the next pivot column's norm, and the update of the columns.  A
!> right-hand side b rides along as one more column and becomes Q'b.
!>
!> Public: qrfac, NORM_CANCELLATION.  Its data is m-sized.
module leastsq_qrfac
   use leastsq_kinds, only: wp, ik, EPS
   use leastsq_enorm, only: enorm, column_norms, settled_norm
   implicit none (type, external)
   private
   public :: qrfac, NORM_CANCELLATION

   !> A downdated column norm is recomputed when 0.05*(norm/reference)² falls
   !> to the rounding error: by then cancellation has taken its digits.
   real(wp), parameter :: NORM_CANCELLATION = 0.05_wp

   !> Columns that are multiplied by a reflector at once, besides b.
   integer, parameter :: GROUP = 5

contains

   !> Factor a.  On return the strict upper triangle of a holds that of R, the
   !> rest the Householder vectors (diagonal included); rdiag is R's diagonal.
   !>
   !> A matrix with a column norm that is not finite is left untouched, with
   !> ipvt the identity, so that the caller can say where it is at fault.
   pure subroutine qrfac(m, n, a, lda, pivot, ipvt, rdiag, acnorm, wa, b)
      integer(ik), intent(in) :: m                !< rows, >= 0
      integer(ik), intent(in) :: n                !< columns, >= 0
      integer(ik), intent(in) :: lda              !< leading dimension, >= m
      real(wp), intent(inout) :: a(lda, n)        !< the matrix; then its factors
      logical, intent(in) :: pivot                !< exchange columns?
      integer(ik), intent(out) :: ipvt(n)         !< column ipvt(j) of A became the j-th
      real(wp), intent(out) :: rdiag(n)           !< diagonal of R
      real(wp), intent(out) :: acnorm(n)          !< norms of A's columns
      real(wp), intent(out) :: wa(n)              !< scratch
      real(wp), intent(inout), optional :: b(m)   !< right-hand side; then Q'b
      real(wp) :: norm
      integer(ik) :: j, next

      ! Preconditions
      call column_norms(m, n, a, lda, acnorm)
      do j = 1, n
         ipvt(j) = j
         rdiag(j) = acnorm(j)                     ! from here on: of what is below row j
         wa(j) = rdiag(j)                         ! rdiag when last computed
      end do
      if (.not. all(acnorm <= huge(1.0_wp)) .or. n == 0) return

      ! Calculation
      next = chosen(1_ik, n, rdiag, pivot)
      norm = acnorm(next)
      do j = 1, min(m, n)
         if (next /= j) call exchange(j, next, m, n, a, lda, ipvt, rdiag, wa)
         if (a(j, j) < 0) norm = -norm
         rdiag(j) = -norm
         if (norm /= 0) then
            call eliminate(j, m, n, a, lda, pivot, rdiag, wa, norm, next, b)
         else if (j < min(m, n)) then
            next = chosen(j + 1, n, rdiag, pivot)
            norm = enorm(m - j, a(j + 1, next))
         end if
      end do
   end subroutine qrfac

   !> The column to become the j-th: the first of the longest.
   pure function chosen(j, n, norms, pivot)
      integer(ik), intent(in) :: j, n
      real(wp), intent(in) :: norms(n)
      logical, intent(in) :: pivot
      integer(ik) :: chosen, k

      chosen = j
      if (.not. pivot) return
      do k = j + 1, n
         if (norms(k) > norms(chosen)) chosen = k
      end do
   end function chosen

   !> Columns j and k change places; j's norms are needed no more.
   pure subroutine exchange(j, k, m, n, a, lda, ipvt, norms, references)
      integer(ik), intent(in) :: j, k, m, n, lda
      real(wp), intent(inout) :: a(lda, n)
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: norms(n), references(n)
      real(wp) :: kept
      integer(ik) :: i, kept_index

      do i = 1, m
         kept = a(i, j)
         a(i, j) = a(i, k)
         a(i, k) = kept
      end do
      kept_index = ipvt(j)
      ipvt(j) = ipvt(k)
      ipvt(k) = kept_index
      norms(k) = norms(j)
      references(k) = references(j)
   end subroutine exchange

   !> Make reflector j and apply it to the columns right of it and to b; find
   !> the next pivot column and its norm.
   pure subroutine eliminate(j, m, n, a, lda, pivot, norms, references, norm, next, b)
      integer(ik), intent(in) :: j, m, n, lda
      real(wp), intent(inout) :: a(lda, n)
      logical, intent(in) :: pivot
      real(wp), intent(inout) :: norms(n)         !< of the columns right of j
      real(wp), intent(inout) :: references(n)    !< norms when last computed
      real(wp), intent(inout) :: norm             !< column j's, signed; then next's
      integer(ik), intent(inout) :: next
      real(wp), intent(inout), optional :: b(m)
      real(wp) :: s(GROUP), s_b                   ! products: of the last group, of b
      logical :: waits(GROUP), cancelled
      integer(ik) :: k, c, first, rest, below

      rest = m - j
      below = min(j + 1, m)
      first = j + 1

      ! The reflector; all groups of columns but the last
      if (n - j <= GROUP) then
         call make_and_multiply(j, m, n, a, lda, norm, s, s_b, b)
      else
         call make_reflector(rest + 1, norm, a(j, j))
         call multiply(j, first, m, n, a, lda, s, s_b, b)
      end if
      do while (n - first >= GROUP)
         do c = 1, GROUP
            call update(rest + 1, s(c), a(j, j), a(j, first + c - 1))
         end do
         first = first + GROUP
         call multiply(j, first, m, n, a, lda, s, s_b, b)
      end do
      if (present(b)) call update(rest + 1, s_b, a(j, j), b(j))
      if (j == n) return

      ! Row j of the last group, all that the choice of the next pivot needs
      do k = first, n
         a(j, k) = a(j, k) - s(k - first + 1)*a(j, j)
      end do
      waits = .true.
      if (pivot) then
         do k = j + 1, n
            call downdate(a(j, k), norms(k), references(k), cancelled)
            if (.not. cancelled) cycle
            c = k - first + 1
            if (c > 0) then
               call update(rest, s(c), a(below, j), a(below, k))
               waits(c) = .false.
            end if
            norms(k) = enorm(rest, a(below, k))
            references(k) = norms(k)
         end do
      end if
      next = chosen(j + 1, n, norms, pivot)

      ! Its other rows, with the norm of the next pivot column
      do k = first, n
         c = k - first + 1
         if (.not. waits(c)) cycle
         if (k == next) then
            call update_with_norm(rest, s(c), a(below, j), a(below, k), norm)
         else
            call update(rest, s(c), a(below, j), a(below, k))
         end if
      end do
      c = next - first + 1
      if (c <= 0) then
         norm = enorm(rest, a(below, next))
      else if (.not. waits(c)) then
         norm = norms(next)                       ! just computed anew
      end if
   end subroutine eliminate

   !> v = x/‖x‖ + e₁, with the sign that avoids cancellation.
   pure subroutine make_reflector(length, norm, v)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      integer(ik) :: i

      do i = 1, length
         v(i) = v(i)/norm
      end do
      v(1) = v(1) + 1
   end subroutine make_reflector

   !> s = vᵀa/v₁ for each column of the group that begins at `first`, and for b.
   !> Where the group is short its last column is repeated, which costs nothing.
   pure subroutine multiply(j, first, m, n, a, lda, s, s_b, b)
      integer(ik), intent(in) :: j, first, m, n, lda
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(out) :: s(GROUP), s_b
      real(wp), intent(in), optional :: b(m)
      integer(ik) :: c(GROUP), i

      c = [(min(first + i, n), i = 0, GROUP - 1)]
      if (present(b)) then
         call products6(m - j + 1, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), a(j, c(4)), &
            a(j, c(5)), b(j), s, s_b)
      else
         call products6(m - j + 1, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), a(j, c(4)), &
            a(j, c(5)), a(j, c(5)), s, s_b)
      end if
   end subroutine multiply

   !> make_reflector and multiply in one pass, where one group is all.  A
   !> division takes longer than an addition, but waits for none.
   pure subroutine make_and_multiply(j, m, n, a, lda, norm, s, s_b, b)
      integer(ik), intent(in) :: j, m, n, lda
      real(wp), intent(inout) :: a(lda, n)
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: s(GROUP), s_b
      real(wp), intent(in), optional :: b(m)
      integer(ik) :: c(GROUP), i, length

      length = m - j + 1
      c = [(min(j + i, n), i = 1, GROUP)]
      if (.not. present(b)) then
         call make_reflector(length, norm, a(j, j))
         if (j < n) call multiply(j, j + 1, m, n, a, lda, s, s_b)
      else if (j == n) then
         call make_with_product(length, norm, a(j, j), b(j), s_b)
      else if (n - j <= 3) then
         call make_with_products4(length, norm, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), &
            b(j), s, s_b)
      else
         call make_with_products6(length, norm, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), &
            a(j, c(4)), a(j, c(5)), b(j), s, s_b)
      end if
   end subroutine make_and_multiply

   pure subroutine products6(length, v, a, b, c, d, e, f, s, s_f)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length)
      real(wp), intent(in) :: a(length), b(length), c(length), d(length), e(length), f(length)
      real(wp), intent(out) :: s(GROUP), s_f
      real(wp) :: sa, sb, sc, sd, se, sf
      integer(ik) :: i

      sa = 0; sb = 0; sc = 0; sd = 0; se = 0; sf = 0
      do i = 1, length
         sa = sa + v(i)*a(i)
         sb = sb + v(i)*b(i)
         sc = sc + v(i)*c(i)
         sd = sd + v(i)*d(i)
         se = se + v(i)*e(i)
         sf = sf + v(i)*f(i)
      end do
      s = [sa, sb, sc, sd, se]/v(1)
      s_f = sf/v(1)
   end subroutine products6

   pure subroutine make_with_products6(length, norm, v, a, b, c, d, e, f, s, s_f)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      real(wp), intent(in) :: a(length), b(length), c(length), d(length), e(length), f(length)
      real(wp), intent(out) :: s(GROUP), s_f
      real(wp) :: sa, sb, sc, sd, se, sf
      integer(ik) :: i

      v(1) = v(1)/norm + 1
      sa = 0 + v(1)*a(1); sb = 0 + v(1)*b(1); sc = 0 + v(1)*c(1)
      sd = 0 + v(1)*d(1); se = 0 + v(1)*e(1); sf = 0 + v(1)*f(1)
      do i = 2, length
         v(i) = v(i)/norm
         sa = sa + v(i)*a(i)
         sb = sb + v(i)*b(i)
         sc = sc + v(i)*c(i)
         sd = sd + v(i)*d(i)
         se = se + v(i)*e(i)
         sf = sf + v(i)*f(i)
      end do
      s = [sa, sb, sc, sd, se]/v(1)
      s_f = sf/v(1)
   end subroutine make_with_products6

   pure subroutine make_with_products4(length, norm, v, a, b, c, d, s, s_d)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      real(wp), intent(in) :: a(length), b(length), c(length), d(length)
      real(wp), intent(inout) :: s(GROUP)
      real(wp), intent(out) :: s_d
      real(wp) :: sa, sb, sc, sd
      integer(ik) :: i

      v(1) = v(1)/norm + 1
      sa = 0 + v(1)*a(1); sb = 0 + v(1)*b(1); sc = 0 + v(1)*c(1); sd = 0 + v(1)*d(1)
      do i = 2, length
         v(i) = v(i)/norm
         sa = sa + v(i)*a(i)
         sb = sb + v(i)*b(i)
         sc = sc + v(i)*c(i)
         sd = sd + v(i)*d(i)
      end do
      s(1) = sa/v(1); s(2) = sb/v(1); s(3) = sc/v(1); s_d = sd/v(1)
   end subroutine make_with_products4

   pure subroutine make_with_product(length, norm, v, a, s)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      real(wp), intent(in) :: a(length)
      real(wp), intent(out) :: s
      integer(ik) :: i

      v(1) = v(1)/norm + 1
      s = 0 + v(1)*a(1)
      do i = 2, length
         v(i) = v(i)/norm
         s = s + v(i)*a(i)
      end do
      s = s/v(1)
   end subroutine make_with_product

   pure subroutine update(length, s, v, a)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: s
      real(wp), intent(in) :: v(length)
      real(wp), intent(inout) :: a(length)
      integer(ik) :: i

      do i = 1, length
         a(i) = a(i) - s*v(i)
      end do
   end subroutine update

   pure subroutine update_with_norm(length, s, v, a, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: s
      real(wp), intent(in) :: v(length)
      real(wp), intent(inout) :: a(length)
      real(wp), intent(out) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, length
         a(i) = a(i) - s*v(i)
         total = total + a(i)*a(i)
      end do
      norm = 0
      if (length > 0) norm = settled_norm(length, a, total)
   end subroutine update_with_norm

   !> Norm of a column's rest after its top element has left it.
   pure subroutine downdate(top, norm, reference, cancelled)
      real(wp), intent(in) :: top
      real(wp), intent(inout) :: norm
      real(wp), intent(in) :: reference
      logical, intent(out) :: cancelled           !< is to be computed anew
      real(wp) :: share

      cancelled = .false.
      if (norm == 0) return
      share = top/norm
      norm = norm*sqrt(max(0.0_wp, 1 - share**2))
      cancelled = NORM_CANCELLATION*(norm/reference)**2 <= EPS
   end subroutine downdate

end module leastsq_qrfac
