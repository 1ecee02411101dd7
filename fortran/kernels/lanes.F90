#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Column-pivoted Householder QR of several small matrices at once, one in each vector lane.
!>
!> qrfac.f90 for LANES matrices of one shape: each operation that it performs on a number is
!> performed here on one number of each matrix.  Every lane's sums run in MINPACK's order and
!> nothing is contracted (meson.build), so each matrix gets MINPACK's bits.  The additions of one
!> sum wait for each other, so the sums of eight matrices run at the same time.
!>
!> Loops over lanes are innermost and become vectors, as many as LANES numbers take; sums over rows
!> stay in registers.  Several columns at once keep several chains of additions going.
!>
!> A matrix that needs another course (a column of zeros, a norm that must be recomputed or
!> guarded, an element that is not finite) is left to qrfac.
!>
!> (More than 500 lines in one file, because the loops that run together must be inlined.)
!>
!> Public: lsq_lanes_..._<ISA>, for C too.  The data is m-sized.
module TAGGED(leastsq_lanes)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   implicit none (type, external)
   private
   public :: TAGGED(lsq_lanes_norms), TAGGED(lsq_lanes_factor), TAGGED(lsq_lanes_pack)
   public :: TAGGED(lsq_lanes_difference), TAGGED(lsq_lanes_difference_alone), TAGGED(lsq_lanes_keep)

   !> Matrices at once: LSQ_LANES of core.h.
   integer, parameter :: LANES = 8

   ! As in enorm.f90 and qrfac.f90, where they are explained.
   real(wp), parameter :: SMALLEST_SQUARABLE = 3.834e-20_wp
   real(wp), parameter :: LARGEST_SQUARABLE = 1.304e19_wp
   real(wp), parameter :: ABSORBS_SMALL = 1.0e-22_wp
   !> A sum of squares, for each element, that the small ones' would not change: theirs are at most 1.5e-39, and
   !> 1 plus a part below 1.1e-16 is 1.
   real(wp), parameter :: LEAVES_SMALL_OUT = 1.0e-22_wp
   real(wp), parameter :: ORDINARY_LEAST = 1.0e-13_wp, ORDINARY_MOST = 1.0e26_wp   ! of up to 1000000 squares
   real(wp), parameter :: NORM_CANCELLATION = 0.05_wp
   ! Squares of norms whose roundings, at most some n EPS/SURELY_ACCURATE, are far below 1 - SURELY_SHORTER.
   real(wp), parameter :: SURELY_ACCURATE = 1.0e-6_wp, SURELY_SHORTER = 1 - 1.0e-6_wp

contains

   !> The norms of vectors; where enorm.f90 might guard one, plain is 0, otherwise 1.
   pure subroutine TAGGED(lsq_lanes_norms)(m, f, norms, plain) bind(c)
      integer(ik), intent(in), value :: m         !< >= 1
      real(wp), intent(in) :: f(LANES, m)
      real(wp), intent(inout) :: norms(LANES)
      integer(ik), intent(inout) :: plain(LANES)

      call squares(m, 1_ik, f, norms)
      plain = 1
      call settle(m, f, norms, plain)
   end subroutine TAGGED(lsq_lanes_norms)

   !> a = the columns of jac, each lane's in the order of its ipvt, and b = f.  Lanes mostly agree.
   pure subroutine TAGGED(lsq_lanes_pack)(m, n, jac, f, ipvt, a, b) bind(c)
      integer(ik), intent(in), value :: m, n
      real(wp), intent(in) :: jac(LANES, m, n), f(LANES, m)
      integer(ik), intent(in) :: ipvt(LANES, n)
      real(wp), intent(inout) :: a(LANES, m, n), b(LANES, m)
      integer(ik) :: j, k
      logical :: begun

      b = f
      do j = 1, n
         begun = .false.
         do k = 1, n
            if (k == ipvt(1, j) .or. .not. any(ipvt(:, j) == k)) cycle
            if (begun) then
               call blend(m, ipvt(1, j), k, jac(1, 1, k), a(1, 1, j))
            else
               call choose_of(m, ipvt(1, j), k, jac(1, 1, k), jac(1, 1, ipvt(1, j)), a(1, 1, j))
               begun = .true.
            end if
         end do
         if (.not. begun) a(:, :, j) = jac(:, :, ipvt(1, j))
      end do
   end subroutine TAGGED(lsq_lanes_pack)

   !> a = other in the lanes whose mark is k.
   pure subroutine blend(length, marks, k, other, a)
      integer(ik), intent(in) :: length, marks(LANES), k
      real(wp), intent(in) :: other(LANES, length)
      real(wp), intent(inout) :: a(LANES, length)
      integer(ik) :: i, q

      do i = 1, length
         !$omp simd
         do q = 1, LANES
            a(q, i) = merge(other(q, i), a(q, i), marks(q) == k)
         end do
      end do
   end subroutine blend

   !> a = one in the lanes whose mark is k, and other in the rest.
   pure subroutine choose_of(length, marks, k, one, other, a)
      integer(ik), intent(in) :: length, marks(LANES), k
      real(wp), intent(in) :: one(LANES, length), other(LANES, length)
      real(wp), intent(inout) :: a(LANES, length)
      integer(ik) :: i, q

      do i = 1, length
         !$omp simd
         do q = 1, LANES
            a(q, i) = merge(one(q, i), other(q, i), marks(q) == k)
         end do
      end do
   end subroutine choose_of

   !> f = moved in the lanes that are marked with 1.
   pure subroutine TAGGED(lsq_lanes_keep)(m, marks, moved, f) bind(c)
      integer(ik), intent(in), value :: m
      integer(ik), intent(in) :: marks(LANES)
      real(wp), intent(in) :: moved(LANES, m)
      real(wp), intent(inout) :: f(LANES, m)

      call blend(m, marks, 1_ik, moved, f)
   end subroutine TAGGED(lsq_lanes_keep)

   !> column = (moved - f)/step.
   pure subroutine TAGGED(lsq_lanes_difference)(m, moved, f, step, column) bind(c)
      integer(ik), intent(in), value :: m
      real(wp), intent(in) :: moved(LANES, m), f(LANES, m), step(LANES)
      real(wp), intent(inout) :: column(LANES, m)
      integer(ik) :: i, q

      do i = 1, m
         !$omp simd
         do q = 1, LANES
            column(q, i) = (moved(q, i) - f(q, i))/step(q)
         end do
      end do
   end subroutine TAGGED(lsq_lanes_difference)

   !> column = (moved - f)/step, of one problem.
   pure subroutine TAGGED(lsq_lanes_difference_alone)(m, moved, f, step, column) bind(c)
      integer(ik), intent(in), value :: m
      real(wp), intent(in) :: moved(m), f(m)
      real(wp), intent(in), value :: step
      real(wp), intent(inout) :: column(m)

      column = (moved - f)/step
   end subroutine TAGGED(lsq_lanes_difference_alone)

   !> Factor each a(q, :, :) with b(q, :) as qrfac does, with pivoting.  Columns may come in any
   !> order; the order of the pivots is the fastest.  Only the strict upper triangle of a, that
   !> of R, is valid on return; where plain(q) is 0, nothing is.
   pure subroutine TAGGED(lsq_lanes_factor)(m, n, a, b, ipvt, rdiag, acnorm, plain, work, places) bind(c)
      integer(ik), intent(in), value :: m         !< rows, >= n
      integer(ik), intent(in), value :: n         !< columns, > 0
      real(wp), intent(inout) :: a(LANES, m, n)   !< the matrices; their R on return
      real(wp), intent(inout) :: b(LANES, m)      !< right-hand sides; their Q'b on return
      integer(ik), intent(inout) :: ipvt(LANES, n)!< the columns' numbers, which qrfac counts from 1
      real(wp), intent(inout) :: rdiag(LANES, n)  !< R's diagonals
      real(wp), intent(inout) :: acnorm(LANES, n) !< the norms of the columns in the order of entry
      integer(ik), intent(inout) :: plain(LANES)
      real(wp), intent(inout) :: work(LANES, n, 3)    !< scratch
      integer(ik), intent(inout) :: places(n)     !< scratch

      call factor(m, n, a, b, ipvt, rdiag, acnorm, plain, work, work(1, 1, 2), work(1, 1, 3), places)
   end subroutine TAGGED(lsq_lanes_factor)

   pure subroutine factor(m, n, a, b, ipvt, rdiag, acnorm, plain, whole, s, norms, places)
      integer(ik), intent(in) :: m, n
      real(wp), intent(inout) :: a(LANES, m, n), b(LANES, m), acnorm(LANES, n)
      real(wp), intent(inout) :: rdiag(LANES, n)          !< right of column j the squares of the norms below row j
      integer(ik), intent(inout) :: ipvt(LANES, n), plain(LANES), places(n)
      real(wp), intent(inout) :: whole(LANES, n)          !< those of the whole columns
      real(wp), intent(inout) :: s(LANES, n)              !< a reflector's products
      real(wp), intent(inout) :: norms(LANES, n)          !< scratch
      real(wp) :: norm(LANES), s_b(LANES)
      integer(ik) :: j, k, q, next(LANES), sure(LANES), rest

      ! Preconditions
      call squares(m, n, a, acnorm)
      plain = 1
      sure = 1
      do k = 1, n
         rdiag(:, k) = acnorm(:, k)
         whole(:, k) = acnorm(:, k)
         call make_sure(m, a(1, 1, k), acnorm(1, k), sure)
      end do
      if (sum(sure) < LANES) then
         do k = 1, n
            call look_closer(m, a(1, 1, k), acnorm(1, k), plain)
            !$omp simd
            do q = 1, LANES
               plain(q) = merge(plain(q), 0_ik, acnorm(q, k) > 0)
            end do
         end do
      end if
      acnorm = sqrt(acnorm)

      ! Calculation
      call choose(1_ik, n, acnorm, ipvt, places, next)
      do k = 1, LANES
         norm(k) = acnorm(k, next(k))
      end do
      call exchange(1_ik, next, m, n, a, ipvt, rdiag, whole)
      call give_sign(a(1, 1, 1), norm, rdiag(1, 1), plain)
      call reflect(m, n - 1, m, norm, a, a(1, 1, min(2_ik, n)), b, s, s_b)
      do j = 1, n - 1
         ! Row j, on which the choice of the next pivot depends
         call update_row(n - j, m, a(1, j, j), s, a(1, j, j + 1), s_b, b(1, j), rdiag(1, j + 1))
         call choose_next(j, m, n, a, rdiag, whole, norms, ipvt, places, next, plain)
         if (any(next /= j + 1)) then
            call exchange(j + 1, next, m, n, a, ipvt, rdiag, whole)
            do k = 1, LANES
               call swap(s(k, 1), s(k, next(k) - j))
            end do
         end if

         ! The next pivot column and its norm; the other columns, and their products with the next reflector
         rest = m - j
         call update_with_norm(rest, a(1, j + 1, j), s, a(1, j + 1, j + 1), norm)
         call settle(rest, a(1, j + 1, j + 1), norm, plain)
         call give_sign(a(1, j + 1, j + 1), norm, rdiag(1, j + 1), plain)
         call advance(rest, n - j - 1, m, a(1, j + 1, j), norm, a(1, j + 1, j + 1), a(1, j + 1, min(j + 2, n)), b(1, j + 1), &
            s, s_b)
      end do
      call update(m - n + 1, a(1, n, n), s_b, b(1, n))
   end subroutine factor

   !> The norm with the sign of the column's first element; R's diagonal has the other sign.
   pure subroutine give_sign(first, norm, diagonal, plain)
      real(wp), intent(in) :: first(LANES)
      real(wp), intent(inout) :: norm(LANES), diagonal(LANES)
      integer(ik), intent(inout) :: plain(LANES)
      integer(ik) :: q

      !$omp simd
      do q = 1, LANES
         plain(q) = merge(plain(q), 0_ik, norm(q) > 0)
         norm(q) = merge(-norm(q), norm(q), first(q) < 0)
         diagonal(q) = -norm(q)
      end do
   end subroutine give_sign

   !> The column of each lane that becomes number j + 1: that with the longest norm, as MINPACK downdates it.
   !>
   !> The squares decide where they differ by far more than both roundings.  Else the norms are
   !> computed in MINPACK's way, which takes a division and a root for each row; a lane in
   !> which MINPACK would compute one anew is not plain.
   pure subroutine choose_next(j, m, n, a, remaining, whole, norms, ipvt, places, next, plain)
      integer(ik), intent(in) :: j, m, n
      real(wp), intent(in) :: a(LANES, m, n)      !< R above row j + 1
      real(wp), intent(in) :: remaining(LANES, n) !< squares of the norms below row j, right of column j
      real(wp), intent(in) :: whole(LANES, n)     !< and of the whole columns
      real(wp), intent(inout) :: norms(LANES, n)  !< scratch
      integer(ik), intent(in) :: ipvt(LANES, n)
      integer(ik), intent(inout) :: places(n)     !< scratch
      integer(ik), intent(out) :: next(LANES)
      integer(ik), intent(inout) :: plain(LANES)
      real(wp) :: best(LANES), second(LANES)
      integer(ik) :: sure(LANES), k, q

      next = j + 1
      if (j == n - 1) return
      best = remaining(:, j + 1)
      second = -1
      sure = 1
      do k = j + 2, n
         !$omp simd
         do q = 1, LANES
            next(q) = merge(k, next(q), remaining(q, k) > best(q))
            second(q) = max(second(q), min(best(q), remaining(q, k)))
            best(q) = max(best(q), remaining(q, k))
         end do
      end do
      do k = j + 1, n
         !$omp simd
         do q = 1, LANES
            sure(q) = merge(sure(q), 0_ik, remaining(q, k) > SURELY_ACCURATE*whole(q, k))
         end do
      end do
      !$omp simd
      do q = 1, LANES
         sure(q) = merge(sure(q), 0_ik, second(q) < SURELY_SHORTER*best(q))
      end do
      if (sum(sure) == LANES) return

      do k = j + 1, n
         norms(:, k) = sqrt(whole(:, k))
         call downdate(j, a(1, 1, k), norms(1, k), plain)
      end do
      call choose(j + 1, n, norms, ipvt, places, next)
   end subroutine choose_next

   !> The norm without the first `rows` rows, by qrfac's downdate.
   pure subroutine downdate(rows, column, norm, plain)
      integer(ik), intent(in) :: rows
      real(wp), intent(in) :: column(LANES, rows)
      real(wp), intent(inout) :: norm(LANES)      !< of the whole column; on return without them
      integer(ik), intent(inout) :: plain(LANES)
      real(wp) :: reference(LANES), share
      integer(ik) :: i, q

      reference = norm
      do i = 1, rows
         !$omp simd private(share)
         do q = 1, LANES
            share = column(q, i)/norm(q)
            norm(q) = norm(q)*sqrt(max(0.0_wp, 1 - share**2))
            share = norm(q)/reference(q)
            plain(q) = merge(plain(q), 0_ik, NORM_CANCELLATION*share**2 > epsilon(1.0_wp))
         end do
      end do
   end subroutine downdate

   !> The column of each lane that becomes number j: the longest.
   pure subroutine choose(j, n, norms, ipvt, places, next)
      integer(ik), intent(in) :: j, n
      real(wp), intent(in) :: norms(LANES, n)
      integer(ik), intent(in) :: ipvt(LANES, n)
      integer(ik), intent(inout) :: places(n)
      integer(ik), intent(out) :: next(LANES)
      real(wp) :: longest(LANES)
      integer(ik) :: tie(LANES), k, q

      ! Mostly column j is the longest in all lanes
      longest = -1
      do k = j + 1, n
         !$omp simd
         do q = 1, LANES
            longest(q) = max(longest(q), norms(q, k))
         end do
      end do
      !$omp simd
      do q = 1, LANES
         next(q) = j
         tie(q) = merge(0_ik, 1_ik, norms(q, j) > longest(q))
      end do
      if (sum(tie) == 0) return

      do q = 1, LANES
         next(q) = j
         longest(q) = norms(q, j)
         tie(q) = 0
      end do
      do k = j + 1, n
         !$omp simd
         do q = 1, LANES
            tie(q) = merge(1_ik, tie(q), norms(q, k) == longest(q))
            tie(q) = merge(0_ik, tie(q), norms(q, k) > longest(q))
            next(q) = merge(k, next(q), norms(q, k) > longest(q))
            longest(q) = merge(norms(q, k), longest(q), norms(q, k) > longest(q))
         end do
      end do
      if (sum(tie) == 0) return
      do q = 1, LANES
         if (tie(q) /= 0) call break_tie(q, j, n, norms, longest(q), ipvt, places, next(q))
      end do
   end subroutine choose

   !> Of several columns of the same length qrfac takes the first one.  qrfac gets the columns in
   !> the order of their numbers, so which is the first depends on all earlier exchanges: they are
   !> repeated here.
   pure subroutine break_tie(q, j, n, norms, longest, ipvt, places, next)
      integer(ik), intent(in) :: q, j, n
      real(wp), intent(in) :: norms(LANES, n), longest
      integer(ik), intent(in) :: ipvt(LANES, n)
      integer(ik), intent(inout) :: places(n)     !< the places of the columns with these numbers
      integer(ik), intent(inout) :: next
      integer(ik) :: k, first

      do k = 1, n
         places(k) = k
      end do
      do k = 1, j - 1
         first = places(ipvt(q, k))
         where (places == k) places = first
         places(ipvt(q, k)) = k
      end do
      first = n + 1
      do k = j, n
         if (norms(q, k) < longest .or. places(ipvt(q, k)) > first) cycle
         next = k
         first = places(ipvt(q, k))
      end do
   end subroutine break_tie

   !> Exchange columns j and `next` of each lane; the norms of j are no longer needed.
   pure subroutine exchange(j, next, m, n, a, ipvt, norms, references)
      integer(ik), intent(in) :: j, m, n, next(LANES)
      real(wp), intent(inout) :: a(LANES, m, n), norms(LANES, n), references(LANES, n)
      integer(ik), intent(inout) :: ipvt(LANES, n)
      integer(ik) :: i, k, q, kept

      do q = 1, LANES
         k = next(q)
         if (k == j) cycle
         do i = 1, m
            call swap(a(q, i, j), a(q, i, k))
         end do
         kept = ipvt(q, j)
         ipvt(q, j) = ipvt(q, k)
         ipvt(q, k) = kept
         norms(q, k) = norms(q, j)
         references(q, k) = references(q, j)
      end do
   end subroutine exchange

   elemental subroutine swap(a, b)
      real(wp), intent(inout) :: a, b
      real(wp) :: kept

      kept = a
      a = b
      b = kept
   end subroutine swap

   !> The norm from each lane's sum of squares: its root, where settled_norm of enorm.f90 is sure
   !> that this is the guarded norm; where it is not, the lane is not plain.
   pure subroutine settle(length, x, norms, plain)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: x(LANES, length)
      real(wp), intent(inout) :: norms(LANES)     !< sums of squares; norms on return
      integer(ik), intent(inout) :: plain(LANES)
      integer(ik) :: sure(LANES)

      sure = 1
      call make_sure(length, x, norms, sure)
      if (sum(sure) < LANES) call look_closer(length, x, norms, plain)
      norms = sqrt(norms)
   end subroutine settle

   !> Sure stays 1 where a sum of squares and the first elements tell that all others are ordinary.
   pure subroutine make_sure(length, x, totals, sure)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: x(LANES, length), totals(LANES)
      integer(ik), intent(inout) :: sure(LANES)
      real(wp) :: first
      integer(ik) :: q, second

      second = min(2_ik, length)                  ! columns of Jacobians may begin with a zero
      !$omp simd private(first)
      do q = 1, LANES
         first = merge(x(q, second), x(q, 1), x(q, 1) == 0)
         sure(q) = merge(sure(q), 0_ik, totals(q) < ORDINARY_MOST)
         sure(q) = merge(sure(q), 0_ik, totals(q) > ORDINARY_LEAST)
         sure(q) = merge(sure(q), 0_ik, first*first >= ABSORBS_SMALL)
      end do
   end subroutine make_sure

   !> The sums without small elements, as MINPACK's guarded norm adds them up.  Where an element is so
   !> large, or the sum so small, that this norm is not the sum's root, plain becomes 0.
   pure subroutine look_closer(length, x, totals, plain)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: x(LANES, length)
      real(wp), intent(inout) :: totals(LANES)    !< sums of all squares; on return without the small ones
      integer(ik), intent(inout) :: plain(LANES)
      real(wp) :: limit, middle(LANES), least(LANES), size
      integer(ik) :: i, q, ordinary

      limit = (LARGEST_SQUARABLE/real(length, wp))**2
      middle = 0
      least = huge(1.0_wp)
      do i = 1, length
         !$omp simd private(size)
         do q = 1, LANES
            size = merge(abs(x(q, i)), huge(1.0_wp), x(q, i) /= 0)
            least(q) = merge(size, least(q), size < least(q))
            middle(q) = middle(q) + merge(x(q, i)*x(q, i), 0.0_wp, abs(x(q, i)) > SMALLEST_SQUARABLE)
         end do
      end do
      !$omp simd private(ordinary)
      do q = 1, LANES
         ordinary = merge(1_ik, 0_ik, least(q) > SMALLEST_SQUARABLE)
         ordinary = merge(1_ik, ordinary, middle(q) >= LEAVES_SMALL_OUT*real(length, wp))
         ordinary = merge(ordinary, 0_ik, totals(q) < limit)     ! and not of a nan
         plain(q) = plain(q)*ordinary
      end do
      totals = middle
   end subroutine look_closer

   !> totals = the sums of squares of the columns of a, six at a time: where fewer are left, the last one is
   !> repeated, at no cost.
   pure subroutine squares(m, n, a, totals)
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: a(LANES, m, n)
      real(wp), intent(inout) :: totals(LANES, n)
      real(wp) :: six(LANES, 6)
      integer(ik) :: c(6), j, k

      if (n == 1) then
         call squares1(m, a, totals)
         return
      end if
      do j = 1, n, 6
         c = [(min(j + k, n), k = 0, 5)]
         call squares6(m, a(1, 1, c(1)), a(1, 1, c(2)), a(1, 1, c(3)), a(1, 1, c(4)), &
            a(1, 1, c(5)), a(1, 1, c(6)), six)
         do k = j, min(j + 5, n)
            totals(:, k) = six(:, k - j + 1)
         end do
      end do
   end subroutine squares

   !> v = x/norm + e₁, and s = vᵀa/v₁ for the columns of a, s_b for b.
   pure subroutine reflect(length, columns, m, norm, v, a, b, s, s_b)
      integer(ik), intent(in) :: length           !< of v
      integer(ik), intent(in) :: columns          !< of a
      integer(ik), intent(in) :: m                !< from one column of a to the next
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length) !< x; then the reflector
      real(wp), intent(in) :: a(LANES, m, columns), b(LANES, length)
      real(wp), intent(inout) :: s(LANES, columns), s_b(LANES)
      real(wp) :: six(LANES, 6)
      integer(ik) :: j, k

      if (columns == 0) then
         call make_with_product(length, norm, v, b, s_b)
         return
      end if
      call make_with_products6(length, norm, v, a, a(1, 1, min(2_ik, columns)), a(1, 1, min(3_ik, columns)), &
         a(1, 1, min(4_ik, columns)), a(1, 1, min(5_ik, columns)), b, six)
      s_b = six(:, 6)
      do k = 1, min(columns, 5_ik)
         s(:, k) = six(:, k)
      end do
      do j = 6, columns
         call product_of(length, v, a(1, 1, j), s(1, j))
      end do
   end subroutine reflect

   !> v = x/norm + e₁; a = a − u sᵀ and b = b − s_b u; then s = vᵀa/v₁ for the columns of a, s_b for b.
   !> The divisions, which take longest, wait for nothing but the norm, so the rest is done meanwhile.
   pure subroutine advance(length, columns, m, u, norm, v, a, b, s, s_b)
      integer(ik), intent(in) :: length           !< of u and v
      integer(ik), intent(in) :: columns          !< of a
      integer(ik), intent(in) :: m                !< from one column of a to the next
      real(wp), intent(in) :: u(LANES, length)    !< the reflector before, below its first element
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length) !< x; then the reflector
      real(wp), intent(inout) :: a(LANES, m, columns), b(LANES, length)
      real(wp), intent(inout) :: s(LANES, columns + 1)    !< from the second on; on return from the first on
      real(wp), intent(inout) :: s_b(LANES)
      integer(ik) :: j

      do j = 1, columns
         s(:, j) = s(:, j + 1)
      end do
      select case (columns)
      case (0)
         call advance1(length, u, norm, v, b, s_b)
      case (1)
         call advance2(length, u, norm, v, b, s_b, a, s)
      case (2)
         call advance3(length, u, norm, v, b, s_b, a, s, a(1, 1, 2), s(1, 2))
      case default
         call advance4(length, u, norm, v, b, s_b, a, s, a(1, 1, 2), s(1, 2), a(1, 1, 3), s(1, 3))
         do j = 4, columns
            call follow(length, u, v, a(1, 1, j), s(1, j))
         end do
      end select
   end subroutine advance

   !> Row 1 of a − v sᵀ and of b − s_b v, and the squares of the norms of the rows below it.
   pure subroutine update_row(columns, m, v, s, a, s_b, b, squares)
      integer(ik), intent(in) :: columns          !< of a
      integer(ik), intent(in) :: m                !< from one column of a to the next
      real(wp), intent(in) :: v(LANES), s(LANES, columns), s_b(LANES)
      real(wp), intent(inout) :: a(LANES, m, columns), b(LANES)
      real(wp), intent(inout) :: squares(LANES, columns)
      real(wp) :: top
      integer(ik) :: k, q

      b = b - s_b*v
      do k = 1, columns
         !$omp simd private(top)
         do q = 1, LANES
            top = a(q, 1, k) - s(q, k)*v(q)
            a(q, 1, k) = top
            squares(q, k) = squares(q, k) - top*top
         end do
      end do
   end subroutine update_row

   pure subroutine squares1(length, a, total)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: a(LANES, length)
      real(wp), intent(out) :: total(LANES)
      integer(ik) :: i, q

      total = 0
      do i = 1, length
         !$omp simd
         do q = 1, LANES
            total(q) = total(q) + a(q, i)*a(q, i)
         end do
      end do
   end subroutine squares1

   pure subroutine squares6(length, a, b, c, d, e, f, totals)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(in) :: d(LANES, length), e(LANES, length), f(LANES, length)
      real(wp), intent(out) :: totals(LANES, 6)
      real(wp), dimension(LANES) :: sa, sb, sc, sd, se, sf
      integer(ik) :: i, q

      sa = 0; sb = 0; sc = 0; sd = 0; se = 0; sf = 0
      do i = 1, length
         !$omp simd
         do q = 1, LANES
            sa(q) = sa(q) + a(q, i)*a(q, i)
            sb(q) = sb(q) + b(q, i)*b(q, i)
            sc(q) = sc(q) + c(q, i)*c(q, i)
            sd(q) = sd(q) + d(q, i)*d(q, i)
            se(q) = se(q) + e(q, i)*e(q, i)
            sf(q) = sf(q) + f(q, i)*f(q, i)
         end do
      end do
      totals(:, 1) = sa
      totals(:, 2) = sb
      totals(:, 3) = sc
      totals(:, 4) = sd
      totals(:, 5) = se
      totals(:, 6) = sf
   end subroutine squares6

   !> The reflector from x, and its products with vectors.
   pure subroutine make_with_products6(length, norm, v, a, b, c, d, e, f, s)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(in) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(in) :: d(LANES, length), e(LANES, length), f(LANES, length)
      real(wp), intent(inout) :: s(LANES, 6)
      real(wp), dimension(LANES) :: sa, sb, sc, sd, se, sf
      real(wp) :: vi
      integer(ik) :: i, q

      !$omp simd
      do q = 1, LANES
         v(q, 1) = v(q, 1)/norm(q) + 1
         sa(q) = 0 + v(q, 1)*a(q, 1)
         sb(q) = 0 + v(q, 1)*b(q, 1)
         sc(q) = 0 + v(q, 1)*c(q, 1)
         sd(q) = 0 + v(q, 1)*d(q, 1)
         se(q) = 0 + v(q, 1)*e(q, 1)
         sf(q) = 0 + v(q, 1)*f(q, 1)
      end do
      do i = 2, length
         !$omp simd private(vi)
         do q = 1, LANES
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            sa(q) = sa(q) + vi*a(q, i)
            sb(q) = sb(q) + vi*b(q, i)
            sc(q) = sc(q) + vi*c(q, i)
            sd(q) = sd(q) + vi*d(q, i)
            se(q) = se(q) + vi*e(q, i)
            sf(q) = sf(q) + vi*f(q, i)
         end do
      end do
      s(:, 1) = sa/v(:, 1)
      s(:, 2) = sb/v(:, 1)
      s(:, 3) = sc/v(:, 1)
      s(:, 4) = sd/v(:, 1)
      s(:, 5) = se/v(:, 1)
      s(:, 6) = sf/v(:, 1)
   end subroutine make_with_products6

   pure subroutine make_with_product(length, norm, v, a, sa)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(in) :: a(LANES, length)
      real(wp), intent(inout) :: sa(LANES)
      real(wp) :: vi
      integer(ik) :: i, q

      !$omp simd
      do q = 1, LANES
         v(q, 1) = v(q, 1)/norm(q) + 1
         sa(q) = 0 + v(q, 1)*a(q, 1)
      end do
      do i = 2, length
         !$omp simd private(vi)
         do q = 1, LANES
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            sa(q) = sa(q) + vi*a(q, i)
         end do
      end do
      sa = sa/v(:, 1)
   end subroutine make_with_product

   pure subroutine product_of(length, v, a, sa)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(LANES, length), a(LANES, length)
      real(wp), intent(inout) :: sa(LANES)
      integer(ik) :: i, q

      sa = 0
      do i = 1, length
         !$omp simd
         do q = 1, LANES
            sa(q) = sa(q) + v(q, i)*a(q, i)
         end do
      end do
      sa = sa/v(:, 1)
   end subroutine product_of

   pure subroutine advance1(length, u, norm, v, a, sa)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: u(LANES, length), norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(inout) :: a(LANES, length)
      real(wp), intent(inout) :: sa(LANES)
      real(wp), dimension(LANES) :: ta
      real(wp) :: vi, next
      integer(ik) :: i, q

      !$omp simd private(next)
      do q = 1, LANES
         v(q, 1) = v(q, 1)/norm(q) + 1
         next = a(q, 1) - sa(q)*u(q, 1)
         a(q, 1) = next
         ta(q) = 0 + v(q, 1)*next
      end do
      do i = 2, length
         !$omp simd private(vi, next)
         do q = 1, LANES
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            next = a(q, i) - sa(q)*u(q, i)
            a(q, i) = next
            ta(q) = ta(q) + vi*next
         end do
      end do
      sa = ta/v(:, 1)
   end subroutine advance1

   pure subroutine advance2(length, u, norm, v, a, sa, b, sb)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: u(LANES, length), norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(inout) :: a(LANES, length), b(LANES, length)
      real(wp), intent(inout) :: sa(LANES), sb(LANES)
      real(wp), dimension(LANES) :: ta, tb
      real(wp) :: vi, next
      integer(ik) :: i, q

      !$omp simd private(next)
      do q = 1, LANES
         v(q, 1) = v(q, 1)/norm(q) + 1
         next = a(q, 1) - sa(q)*u(q, 1)
         a(q, 1) = next
         ta(q) = 0 + v(q, 1)*next
         next = b(q, 1) - sb(q)*u(q, 1)
         b(q, 1) = next
         tb(q) = 0 + v(q, 1)*next
      end do
      do i = 2, length
         !$omp simd private(vi, next)
         do q = 1, LANES
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            next = a(q, i) - sa(q)*u(q, i)
            a(q, i) = next
            ta(q) = ta(q) + vi*next
            next = b(q, i) - sb(q)*u(q, i)
            b(q, i) = next
            tb(q) = tb(q) + vi*next
         end do
      end do
      sa = ta/v(:, 1)
      sb = tb/v(:, 1)
   end subroutine advance2

   pure subroutine advance3(length, u, norm, v, a, sa, b, sb, c, sc)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: u(LANES, length), norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(inout) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(inout) :: sa(LANES), sb(LANES), sc(LANES)
      real(wp), dimension(LANES) :: ta, tb, tc
      real(wp) :: vi, next
      integer(ik) :: i, q

      !$omp simd private(next)
      do q = 1, LANES
         v(q, 1) = v(q, 1)/norm(q) + 1
         next = a(q, 1) - sa(q)*u(q, 1)
         a(q, 1) = next
         ta(q) = 0 + v(q, 1)*next
         next = b(q, 1) - sb(q)*u(q, 1)
         b(q, 1) = next
         tb(q) = 0 + v(q, 1)*next
         next = c(q, 1) - sc(q)*u(q, 1)
         c(q, 1) = next
         tc(q) = 0 + v(q, 1)*next
      end do
      do i = 2, length
         !$omp simd private(vi, next)
         do q = 1, LANES
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            next = a(q, i) - sa(q)*u(q, i)
            a(q, i) = next
            ta(q) = ta(q) + vi*next
            next = b(q, i) - sb(q)*u(q, i)
            b(q, i) = next
            tb(q) = tb(q) + vi*next
            next = c(q, i) - sc(q)*u(q, i)
            c(q, i) = next
            tc(q) = tc(q) + vi*next
         end do
      end do
      sa = ta/v(:, 1)
      sb = tb/v(:, 1)
      sc = tc/v(:, 1)
   end subroutine advance3

   pure subroutine advance4(length, u, norm, v, a, sa, b, sb, c, sc, d, sd)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: u(LANES, length), norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(inout) :: a(LANES, length), b(LANES, length), c(LANES, length), d(LANES, length)
      real(wp), intent(inout) :: sa(LANES), sb(LANES), sc(LANES), sd(LANES)
      real(wp), dimension(LANES) :: ta, tb, tc, td
      real(wp) :: vi, next
      integer(ik) :: i, q

      !$omp simd private(next)
      do q = 1, LANES
         v(q, 1) = v(q, 1)/norm(q) + 1
         next = a(q, 1) - sa(q)*u(q, 1)
         a(q, 1) = next
         ta(q) = 0 + v(q, 1)*next
         next = b(q, 1) - sb(q)*u(q, 1)
         b(q, 1) = next
         tb(q) = 0 + v(q, 1)*next
         next = c(q, 1) - sc(q)*u(q, 1)
         c(q, 1) = next
         tc(q) = 0 + v(q, 1)*next
         next = d(q, 1) - sd(q)*u(q, 1)
         d(q, 1) = next
         td(q) = 0 + v(q, 1)*next
      end do
      do i = 2, length
         !$omp simd private(vi, next)
         do q = 1, LANES
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            next = a(q, i) - sa(q)*u(q, i)
            a(q, i) = next
            ta(q) = ta(q) + vi*next
            next = b(q, i) - sb(q)*u(q, i)
            b(q, i) = next
            tb(q) = tb(q) + vi*next
            next = c(q, i) - sc(q)*u(q, i)
            c(q, i) = next
            tc(q) = tc(q) + vi*next
            next = d(q, i) - sd(q)*u(q, i)
            d(q, i) = next
            td(q) = td(q) + vi*next
         end do
      end do
      sa = ta/v(:, 1)
      sb = tb/v(:, 1)
      sc = tc/v(:, 1)
      sd = td/v(:, 1)
   end subroutine advance4

   !> The same for a column more.
   pure subroutine follow(length, u, v, a, sa)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: u(LANES, length), v(LANES, length)
      real(wp), intent(inout) :: a(LANES, length), sa(LANES)
      real(wp) :: total(LANES), next
      integer(ik) :: i, q

      total = 0
      do i = 1, length
         !$omp simd private(next)
         do q = 1, LANES
            next = a(q, i) - sa(q)*u(q, i)
            a(q, i) = next
            total(q) = total(q) + v(q, i)*next
         end do
      end do
      sa = total/v(:, 1)
   end subroutine follow

   !> a = a − s v, and its sum of squares.
   pure subroutine update_with_norm(length, v, s, a, total)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(LANES, length), s(LANES)
      real(wp), intent(inout) :: a(LANES, length)
      real(wp), intent(inout) :: total(LANES)
      real(wp) :: squares(LANES), next
      integer(ik) :: i, q

      squares = 0
      do i = 1, length
         !$omp simd private(next)
         do q = 1, LANES
            next = a(q, i) - s(q)*v(q, i)
            a(q, i) = next
            squares(q) = squares(q) + next*next
         end do
      end do
      total = squares
   end subroutine update_with_norm

   !> a = a − s v.
   pure subroutine update(length, v, s, a)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(LANES, length), s(LANES)
      real(wp), intent(inout) :: a(LANES, length)
      integer(ik) :: i, q

      do i = 1, length
         !$omp simd
         do q = 1, LANES
            a(q, i) = a(q, i) - s(q)*v(q, i)
         end do
      end do
   end subroutine update

end module TAGGED(leastsq_lanes)
