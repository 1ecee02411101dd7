!> Column-pivoted Householder QR, operation for operation MINPACK's.
!>
!> A P = Q R (Businger and Golub 1965; Moré, LNM 630, 1978, §4).  Every sum runs
!> in MINPACK's order, so the results have MINPACK's bits.  A sum is a chain of
!> additions, each of which waits for the previous one.  Unlike MINPACK, this code runs other
!> work at the same time: other sums, the divisions that make a reflector, the update of the
!> columns.  The next pivot column is guessed before its norm is known, moved to its place
!> while it is updated, and moved back if MINPACK's norms decide otherwise.
!> A right-hand side b is treated as one more column and becomes Q'b.
!> (More than 500 lines in one file, because the loops that run together must be inlined.)
!>
!> Public: qrfac, NORM_CANCELLATION.  The data is m-sized.
module leastsq_qrfac
   use leastsq_kinds, only: wp, ik, EPS
   use leastsq_enorm, only: enorm, column_norms, settled_norm
   implicit none (type, external)
   private
   public :: qrfac, NORM_CANCELLATION

   !> A downdated column norm is recomputed when 0.05*(norm/reference)² falls
   !> to the rounding error: by then cancellation has destroyed its digits.
   real(wp), parameter :: NORM_CANCELLATION = 0.05_wp
   !> A norm above this times the reference is certainly good, because the limit of
   !> norm/reference is 6.7e-8; this check needs no division.
   real(wp), parameter :: SURELY_LEFT = 1.0e-6_wp

   !> Columns that are multiplied by a reflector at once, in addition to b.
   integer, parameter :: GROUP = 5

contains

   !> Factor a.  On return the strict upper triangle of a holds that of R, the
   !> rest the Householder vectors (diagonal included); rdiag is R's diagonal.
   !>
   !> A matrix with a column norm that is not finite is left unchanged, with
   !> ipvt the identity, so that the caller can say where the fault is.
   pure subroutine qrfac(m, n, a, lda, pivot, ipvt, rdiag, acnorm, wa, b)
      integer(ik), intent(in) :: m                !< rows, >= 0
      integer(ik), intent(in) :: n                !< columns, >= 0
      integer(ik), intent(in) :: lda              !< leading dimension, >= m
      real(wp), intent(inout) :: a(lda, n)        !< the matrix; its factors on return
      logical, intent(in) :: pivot                !< exchange columns?
      integer(ik), intent(out) :: ipvt(n)         !< column ipvt(j) of A became the j-th
      real(wp), intent(out) :: rdiag(n)           !< diagonal of R
      real(wp), intent(out) :: acnorm(n)          !< norms of A's columns
      real(wp), intent(out) :: wa(n)              !< scratch
      real(wp), intent(inout), optional :: b(m)   !< right-hand side; Q'b on return
      real(wp) :: norm
      integer(ik) :: j, last

      ! Preconditions
      call column_norms(m, n, a, lda, acnorm)
      do j = 1, n
         ipvt(j) = j
         rdiag(j) = acnorm(j)                     ! from here on the norm of the elements below row j
         wa(j) = rdiag(j)                         ! rdiag when last computed
      end do
      last = min(m, n)
      if (.not. all(acnorm <= huge(1.0_wp)) .or. last == 0) return

      ! Calculation
      if (pivot) call exchange(1_ik, longest(1_ik, n, rdiag), m, n, a, lda, ipvt, rdiag, wa)
      norm = rdiag(1)
      do j = 1, last
         if (a(j, j) < 0) norm = -norm
         rdiag(j) = -norm
         if (norm /= 0) then
            call eliminate(j, m, n, a, lda, pivot, ipvt, rdiag, wa, norm, b)
         else if (j < last) then
            if (pivot) call exchange(j + 1, longest(j + 1, n, rdiag), m, n, a, lda, ipvt, rdiag, wa)
            norm = enorm(m - j, a(j + 1, j + 1))
         end if
      end do
   end subroutine qrfac

   !> The column that becomes number j: the first of the longest ones.
   pure function longest(j, n, norms)
      integer(ik), intent(in) :: j, n
      real(wp), intent(in) :: norms(n)
      integer(ik) :: longest, k

      longest = j
      do k = j + 1, n
         if (norms(k) > norms(longest)) longest = k
      end do
   end function longest

   !> Exchange the first `rows` rows of columns j and k, and their norms and numbers.
   pure subroutine exchange(j, k, rows, n, a, lda, ipvt, norms, references)
      integer(ik), intent(in) :: j, k, rows, n, lda
      real(wp), intent(inout) :: a(lda, n)
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: norms(n)
      real(wp), intent(inout) :: references(n)
      real(wp) :: kept
      integer(ik) :: i, kept_index

      if (j == k) return
      do i = 1, rows
         kept = a(i, j)
         a(i, j) = a(i, k)
         a(i, k) = kept
      end do
      kept_index = ipvt(j)
      ipvt(j) = ipvt(k)
      ipvt(k) = kept_index
      kept = norms(j)
      norms(j) = norms(k)
      norms(k) = kept
      kept = references(j)
      references(j) = references(k)
      references(k) = kept
   end subroutine exchange

   !> Make reflector j and apply it to the columns to its right and to b; move the next
   !> pivot column to its place, and compute its norm.
   pure subroutine eliminate(j, m, n, a, lda, pivot, ipvt, norms, references, norm, b)
      integer(ik), intent(in) :: j, m, n, lda
      real(wp), intent(inout) :: a(lda, n)
      logical, intent(in) :: pivot
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: norms(n)         !< of the columns right of j
      real(wp), intent(inout) :: references(n)    !< norms when last computed
      real(wp), intent(inout) :: norm             !< column j's, signed; on return the next one's
      real(wp), intent(inout), optional :: b(m)
      real(wp) :: s(GROUP), s_b                   ! vᵀa/v₁: of the last group, of b
      integer(ik) :: k, c, first, rest, below, next
      logical :: choose

      rest = m - j
      below = min(j + 1, m)
      first = j + 1
      choose = pivot .and. j < min(m, n - 1)

      ! The reflector; all groups of columns but the last
      if (n - j <= GROUP) then
         call make_and_multiply(j, m, n, a, lda, norm, s, s_b, b)
      else
         call make_reflector(rest + 1, norm, a(j, j))
         call multiply(j, first, m, n, a, lda, s, s_b, b)
      end if
      do while (n - first >= GROUP)
         do c = 1, GROUP
            call update(rest + 1, a(j, j), s(c)/a(j, j), a(j, first + c - 1))
         end do
         first = first + GROUP
         call multiply(j, first, m, n, a, lda, s, s_b, b)
      end do
      s_b = s_b/a(j, j)
      if (j == n) then
         if (present(b)) call update(rest + 1, a(j, j), s_b, b(j))
         return
      end if

      ! The last group, with the norm of what is likely the next pivot column
      next = j + 1
      if (choose) next = likely(j, first, n, a, lda, s, norms)
      s = s/a(j, j)
      do k = first, n
         a(j, k) = a(j, k) - s(k - first + 1)*a(j, j)
      end do
      if (first == j + 1 .and. present(b)) then
         call update_group(j, next, m, n, a, lda, s, s_b, b, norm)
         call exchange(j + 1, next, j, n, a, lda, ipvt, norms, references)
      else
         if (present(b)) call update(rest + 1, a(j, j), s_b, b(j))
         do k = first, n
            if (k == next) then
               call update_with_norm(rest, a(below, j), s(k - first + 1), a(below, k), norm)
            else
               call update(rest, a(below, j), s(k - first + 1), a(below, k))
            end if
         end do
         if (next < first) norm = enorm(rest, a(below, next))
         call exchange(j + 1, next, m, n, a, lda, ipvt, norms, references)
      end if
      if (.not. pivot .or. (j == n - 1 .and. j < m)) return    ! the last norm is not needed

      ! Was the guess right?
      call downdate(j, m, n, a, lda, norms, references)
      if (.not. choose .or. all(norms(j + 1) > norms(j + 2:n))) return
      if (next == j + 1 .and. all(norms(j + 1) >= norms(j + 2:n))) return
      call exchange(j + 1, next, m, n, a, lda, ipvt, norms, references)
      call exchange(j + 1, longest(j + 1, n, norms), m, n, a, lda, ipvt, norms, references)
      norm = enorm(rest, a(below, j + 1))
   end subroutine eliminate

   !> The column that will be the longest without row j.  No division or root is used, because
   !> the update waits for the answer.  `sums` are those of the last group, from column `first`
   !> on: they give the change of its elements in row j.
   pure function likely(j, first, n, a, lda, sums, norms) result(best)
      integer(ik), intent(in) :: j, first, n, lda
      real(wp), intent(in) :: a(lda, n), sums(GROUP), norms(n)
      integer(ik) :: best, k
      real(wp) :: top, square, largest

      best = j + 1
      largest = -1
      do k = j + 1, n
         top = a(j, k)
         if (k >= first) top = top - sums(k - first + 1)
         square = (norms(k) - top)*(norms(k) + top)
         if (square > largest) then
            largest = square
            best = k
         end if
      end do
   end function likely

   !> Sums of v_i a_i for each column of the group that begins at `first`, and for b.
   !> Where the group is short its last column is repeated, which costs nothing.
   pure subroutine multiply(j, first, m, n, a, lda, sums, sum_b, b)
      integer(ik), intent(in) :: j, first, m, n, lda
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(out) :: sums(GROUP), sum_b
      real(wp), intent(in), optional :: b(m)
      integer(ik) :: c(GROUP), i

      c = [(min(first + i, n), i = 0, GROUP - 1)]
      if (present(b)) then
         call products6(m - j + 1, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), a(j, c(4)), &
            a(j, c(5)), b(j), sums, sum_b)
      else
         call products6(m - j + 1, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), a(j, c(4)), &
            a(j, c(5)), a(j, c(5)), sums, sum_b)
      end if
   end subroutine multiply

   !> make_reflector and multiply in one pass, if there is only one group.
   pure subroutine make_and_multiply(j, m, n, a, lda, norm, sums, sum_b, b)
      integer(ik), intent(in) :: j, m, n, lda
      real(wp), intent(inout) :: a(lda, n)
      real(wp), intent(in) :: norm
      real(wp), intent(out) :: sums(GROUP), sum_b
      real(wp), intent(in), optional :: b(m)
      integer(ik) :: c(GROUP), i, length

      length = m - j + 1
      c = [(min(j + i, n), i = 1, GROUP)]
      if (.not. present(b)) then
         call make_reflector(length, norm, a(j, j))
         call multiply(j, min(j + 1, n), m, n, a, lda, sums, sum_b)
      else if (j == n) then
         call make_with_product(length, norm, a(j, j), b(j), sum_b)
      else if (n - j <= 3) then
         call make_with_products4(length, norm, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), &
            b(j), sums, sum_b)
      else
         call make_with_products6(length, norm, a(j, j), a(j, c(1)), a(j, c(2)), a(j, c(3)), &
            a(j, c(4)), a(j, c(5)), b(j), sums, sum_b)
      end if
   end subroutine make_and_multiply

   !> Apply reflector j to b and to the rows below row j of all columns, if they are one
   !> group.  Columns j+1 and `next` are exchanged; the norm is that of `next`.
   pure subroutine update_group(j, next, m, n, a, lda, s, s_b, b, norm)
      integer(ik), intent(in) :: j, next, m, n, lda
      real(wp), intent(inout) :: a(lda, n), b(m)
      real(wp), intent(in) :: s(GROUP), s_b
      real(wp), intent(out) :: norm
      integer(ik) :: rest, i, c, p, q

      b(j) = b(j) - s_b*a(j, j)
      rest = m - j
      i = min(j + 1, m)
      c = j + 1
      p = j + 2                                   ! the two other columns
      if (p == next) p = p + 1
      q = p + 1
      if (q == next) q = q + 1
      if (next == c) then
         select case (n - j)
         case (1)
            call update2(rest, a(i, j), s(1), a(i, c), s_b, b(i), norm)
         case (2)
            call update3(rest, a(i, j), s(1), a(i, c), s_b, b(i), s(2), a(i, p), norm)
         case (3)
            call update4(rest, a(i, j), s(1), a(i, c), s_b, b(i), s(2), a(i, p), s(3), a(i, q), norm)
         case default
            call update5(rest, a(i, j), s(1), a(i, c), s_b, b(i), s(2), a(i, p), s(3), a(i, q), &
               s(4), a(i, j + 4), norm)
         end select
      else
         select case (n - j)
         case (2)
            call exchange3(rest, a(i, j), s(2), a(i, next), s(1), a(i, c), s_b, b(i), norm)
         case (3)
            call exchange4(rest, a(i, j), s(next - j), a(i, next), s(1), a(i, c), s_b, b(i), &
               s(p - j), a(i, p), norm)
         case default
            call exchange5(rest, a(i, j), s(next - j), a(i, next), s(1), a(i, c), s_b, b(i), &
               s(p - j), a(i, p), s(q - j), a(i, q), norm)
         end select
      end if
      if (n - j == GROUP) then                    ! the column that is left
         q = n
         if (next == n) q = n - 1
         call update(rest, a(i, j), s(q - j), a(i, q))
      end if
   end subroutine update_group

   !> Norms of the columns without row j.
   pure subroutine downdate(j, m, n, a, lda, norms, references)
      integer(ik), intent(in) :: j, m, n, lda
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(inout) :: norms(n), references(n)
      integer(ik) :: k

      do k = j + 1, n
         if (norms(k) == 0) cycle
         norms(k) = norms(k)*sqrt(max(0.0_wp, 1 - (a(j, k)/norms(k))**2))
         if (norms(k) > SURELY_LEFT*references(k)) cycle
         if (.not. NORM_CANCELLATION*(norms(k)/references(k))**2 <= EPS) cycle
         norms(k) = enorm(m - j, a(min(j + 1, m), k))
         references(k) = norms(k)
      end do
   end subroutine downdate

   ! ---------------------------------------------------------------------------
   ! Passes over the columns, in this file so that they are inlined

   ! The reflector v = x/‖x‖ + e₁, with the sign of `norm` that avoids
   ! cancellation, and its products with columns

   pure subroutine make_reflector(length, norm, v)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)        !< x; v on return
      integer(ik) :: i

      do i = 1, length
         v(i) = v(i)/norm
      end do
      v(1) = v(1) + 1
   end subroutine make_reflector

   pure subroutine make_with_product(length, norm, v, a, sum_a)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      real(wp), intent(in) :: a(length)
      real(wp), intent(out) :: sum_a
      integer(ik) :: i

      v(1) = v(1)/norm + 1
      sum_a = 0 + v(1)*a(1)
      do i = 2, length
         v(i) = v(i)/norm
         sum_a = sum_a + v(i)*a(i)
      end do
   end subroutine make_with_product

   pure subroutine make_with_products4(length, norm, v, a, b, c, d, sums, sum_d)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      real(wp), intent(in) :: a(length), b(length), c(length), d(length)
      real(wp), intent(out) :: sums(5), sum_d
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
      sums = [sa, sb, sc, 0.0_wp, 0.0_wp]
      sum_d = sd
   end subroutine make_with_products4

   pure subroutine make_with_products6(length, norm, v, a, b, c, d, e, f, sums, sum_f)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      real(wp), intent(in) :: a(length), b(length), c(length), d(length), e(length), f(length)
      real(wp), intent(out) :: sums(5), sum_f
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
      sums = [sa, sb, sc, sd, se]
      sum_f = sf
   end subroutine make_with_products6

   pure subroutine products6(length, v, a, b, c, d, e, f, sums, sum_f)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length)
      real(wp), intent(in) :: a(length), b(length), c(length), d(length), e(length), f(length)
      real(wp), intent(out) :: sums(5), sum_f
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
      sums = [sa, sb, sc, sd, se]
      sum_f = sf
   end subroutine products6

   ! a = a - s v, for one column or several; `norm` is that of the first

   pure subroutine update(length, v, sa, a)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa
      real(wp), intent(inout) :: a(length)
      integer(ik) :: i

      do i = 1, length
         a(i) = a(i) - sa*v(i)
      end do
   end subroutine update

   pure subroutine update_with_norm(length, v, sa, a, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa
      real(wp), intent(inout) :: a(length)
      real(wp), intent(out) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         total = total + a(i)*a(i)
      end do
      norm = settled_norm(length, a, total)
   end subroutine update_with_norm

   pure subroutine update2(length, v, sa, a, sb, b, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb
      real(wp), intent(inout) :: a(length), b(length)
      real(wp), intent(out) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
         total = total + a(i)*a(i)
      end do
      norm = settled_norm(length, a, total)
   end subroutine update2

   pure subroutine update3(length, v, sa, a, sb, b, sc, c, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb, sc
      real(wp), intent(inout) :: a(length), b(length), c(length)
      real(wp), intent(out) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
         c(i) = c(i) - sc*v(i)
         total = total + a(i)*a(i)
      end do
      norm = settled_norm(length, a, total)
   end subroutine update3

   pure subroutine update4(length, v, sa, a, sb, b, sc, c, sd, d, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb, sc, sd
      real(wp), intent(inout) :: a(length), b(length), c(length), d(length)
      real(wp), intent(out) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
         c(i) = c(i) - sc*v(i)
         d(i) = d(i) - sd*v(i)
         total = total + a(i)*a(i)
      end do
      norm = settled_norm(length, a, total)
   end subroutine update4

   pure subroutine update5(length, v, sa, a, sb, b, sc, c, sd, d, se, e, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb, sc, sd, se
      real(wp), intent(inout) :: a(length), b(length), c(length), d(length), e(length)
      real(wp), intent(out) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
         c(i) = c(i) - sc*v(i)
         d(i) = d(i) - sd*v(i)
         e(i) = e(i) - se*v(i)
         total = total + a(i)*a(i)
      end do
      norm = settled_norm(length, a, total)
   end subroutine update5

   ! The same, with a and b exchanged: the norm is that of a, now in b

   pure subroutine exchange3(length, v, sa, a, sb, b, sc, c, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb, sc
      real(wp), intent(inout) :: a(length), b(length), c(length)
      real(wp), intent(out) :: norm
      real(wp) :: total, new_a
      integer(ik) :: i

      total = 0
      do i = 1, length
         new_a = a(i) - sa*v(i)
         a(i) = b(i) - sb*v(i)
         b(i) = new_a
         c(i) = c(i) - sc*v(i)
         total = total + new_a*new_a
      end do
      norm = settled_norm(length, b, total)
   end subroutine exchange3

   pure subroutine exchange4(length, v, sa, a, sb, b, sc, c, sd, d, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb, sc, sd
      real(wp), intent(inout) :: a(length), b(length), c(length), d(length)
      real(wp), intent(out) :: norm
      real(wp) :: total, new_a
      integer(ik) :: i

      total = 0
      do i = 1, length
         new_a = a(i) - sa*v(i)
         a(i) = b(i) - sb*v(i)
         b(i) = new_a
         c(i) = c(i) - sc*v(i)
         d(i) = d(i) - sd*v(i)
         total = total + new_a*new_a
      end do
      norm = settled_norm(length, b, total)
   end subroutine exchange4

   pure subroutine exchange5(length, v, sa, a, sb, b, sc, c, sd, d, se, e, norm)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length), sa, sb, sc, sd, se
      real(wp), intent(inout) :: a(length), b(length), c(length), d(length), e(length)
      real(wp), intent(out) :: norm
      real(wp) :: total, new_a
      integer(ik) :: i

      total = 0
      do i = 1, length
         new_a = a(i) - sa*v(i)
         a(i) = b(i) - sb*v(i)
         b(i) = new_a
         c(i) = c(i) - sc*v(i)
         d(i) = d(i) - sd*v(i)
         e(i) = e(i) - se*v(i)
         total = total + new_a*new_a
      end do
      norm = settled_norm(length, b, total)
   end subroutine exchange5

end module leastsq_qrfac
