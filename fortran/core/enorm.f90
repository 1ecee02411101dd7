!> Euclidean norms that neither overflow nor underflow.
!>
!> MINPACK's guarded norm (Moré, Garbow, Hillstrom, ANL-80-74, enorm): three
!> running sums for small, mid-range and large elements.  First the plain sum of
!> squares is tried: where it proves that the sums of the small and the large elements do
!> not matter, its square root is the norm, with the same bits.
!>
!> Public: enorm, column_norms, settled_norm, surely_plain.  For n- and m-sized data.
module leastsq_enorm
   use leastsq_kinds, only: wp, ik
   implicit none (type, external)
   private
   public :: enorm, column_norms, settled_norm, surely_plain

   real(wp), parameter :: SMALLEST_SQUARABLE = 3.834e-20_wp
   real(wp), parameter :: LARGEST_SQUARABLE = 1.304e19_wp   ! divided by the length
   !> A sum this large is not changed by the square of a small element, which is at
   !> most 1.5e-39 and so less than half a unit in the sum's last place.
   real(wp), parameter :: ABSORBS_SMALL = 1.0e-22_wp
   !> Sums between these pass settled_norm's tests for any length up to ORDINARY_LENGTH.
   real(wp), parameter :: ORDINARY_LEAST = 1.0e-13_wp
   real(wp), parameter :: ORDINARY_MOST = 1.0e26_wp
   integer(ik), parameter :: ORDINARY_LENGTH = 1000000

contains

   !> ‖x‖ of a vector of length n.
   pure function enorm(n, x) result(norm)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp) :: norm
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, n
         total = total + x(i)*x(i)
      end do
      norm = settled_norm(n, x, total)
   end function enorm

   !> The norms of the n columns of a, each with the bits of enorm.
   !>
   !> A sum of squares is a chain of additions, each of which waits for the previous
   !> one; six columns at once keep six chains going.  If fewer columns are left,
   !> the last one is summed more than once, which takes no longer.
   pure subroutine column_norms(m, n, a, lda, norms)
      integer(ik), intent(in) :: m, n, lda
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(out) :: norms(n)
      real(wp) :: totals(6)
      integer(ik) :: j, k

      if (m == 0) then
         norms = 0
         return
      end if
      do j = 1, n, 6
         call six_sums(m, a(1, j), a(1, min(j + 1, n)), a(1, min(j + 2, n)), &
            a(1, min(j + 3, n)), a(1, min(j + 4, n)), a(1, min(j + 5, n)), totals)
         do k = j, min(j + 5, n)
            norms(k) = settled_norm(m, a(1, k), totals(k - j + 1))
         end do
      end do
   end subroutine column_norms

   !> Sums of squares of six vectors.
   pure subroutine six_sums(m, a, b, c, d, e, f, totals)
      integer(ik), intent(in) :: m
      real(wp), intent(in) :: a(m), b(m), c(m), d(m), e(m), f(m)
      real(wp), intent(out) :: totals(6)
      real(wp) :: ta, tb, tc, td, te, tf
      integer(ik) :: i

      ta = 0; tb = 0; tc = 0; td = 0; te = 0; tf = 0
      do i = 1, m
         ta = ta + a(i)*a(i)
         tb = tb + b(i)*b(i)
         tc = tc + c(i)*c(i)
         td = td + d(i)*d(i)
         te = te + e(i)*e(i)
         tf = tf + f(i)*f(i)
      end do
      totals = [ta, tb, tc, td, te, tf]
   end subroutine six_sums

   !> The norm of x, whose squares add up to `total` from first to last: √total if the
   !> guarded norm is sure to be the same, otherwise the guarded norm.
   pure function settled_norm(n, x, total) result(norm)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: total
      real(wp) :: norm
      logical :: plain

      plain = total > ORDINARY_LEAST .and. total < ORDINARY_MOST .and. n <= ORDINARY_LENGTH
      if (plain) plain = x(1)*x(1) >= ABSORBS_SMALL
      if (.not. plain) plain = is_plain(n, x, total)
      if (plain) then
         norm = sqrt(total)
      else
         norm = guarded_norm(n, x)
      end if
   end function settled_norm

   !> Is the root of the sum of squares the guarded norm?
   !>
   !> No element is large if the sum is below the square of the limit: every
   !> square is at most the sum, also after rounding.  (With a NaN the comparison is false.)
   !> Small elements do not matter under two conditions: the first nonzero element makes the
   !> sum so large that adding their squares does not change it, and the final sum is so
   !> large that MINPACK's correction for small elements, 1 + (s/total) (s n) with s the limit,
   !> is exactly 1.
   pure function is_plain(n, x, total) result(plain)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: total
      logical :: plain
      real(wp) :: large_limit
      integer(ik) :: i

      large_limit = LARGEST_SQUARABLE/real(n, wp)
      plain = total < large_limit*large_limit
      if (.not. plain) return
      plain = .false.
      if (total >= SMALLEST_SQUARABLE*real(n, wp) .and. total > 0) then
         i = 1
         do while (x(i) == 0)                    ! ends, because total > 0
            i = i + 1
         end do
         plain = x(i)*x(i) >= ABSORBS_SMALL
      end if
      if (.not. plain) plain = .not. any_small(n, x)
   end function is_plain

   !> The question of is_plain for several vectors at once.  Looks at the second element too,
   !> because columns of Jacobians may begin with a zero.
   pure function surely_plain(vectors, n, x, totals)
      integer, intent(in) :: vectors
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(vectors, n), totals(vectors)
      logical :: surely_plain
      real(wp) :: least, most, first
      integer :: q

      least = SMALLEST_SQUARABLE*real(n, wp)
      most = (LARGEST_SQUARABLE/real(n, wp))**2
      surely_plain = .true.
      do q = 1, vectors                           ! scalars, because an array of this size would be allocated
         first = x(q, 1)
         if (first == 0 .and. n > 1) first = x(q, 2)
         surely_plain = surely_plain .and. totals(q) < most .and. totals(q) >= least &
            .and. first*first >= ABSORBS_SMALL
      end do
   end function surely_plain

   !> Is any element small but not zero?
   pure function any_small(n, x) result(found)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      logical :: found
      integer(ik) :: i

      found = .false.
      do i = 1, n
         found = abs(x(i)) <= SMALLEST_SQUARABLE .and. abs(x(i)) > 0
         if (found) return
      end do
   end function any_small

   !> The norm by three sums; those of the small and the large elements are scaled by their largest element.
   pure function guarded_norm(n, x) result(norm)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp) :: norm
      real(wp) :: large_sum, large_max, mid_sum, small_sum, small_max
      real(wp) :: large_limit, magnitude
      integer(ik) :: i

      large_sum = 0; large_max = 0
      mid_sum = 0
      small_sum = 0; small_max = 0
      large_limit = LARGEST_SQUARABLE/real(n, wp)
      do i = 1, n
         magnitude = abs(x(i))
         if (magnitude > SMALLEST_SQUARABLE .and. magnitude < large_limit) then
            mid_sum = mid_sum + magnitude**2
         else if (magnitude <= SMALLEST_SQUARABLE) then
            if (magnitude > 0) call accumulate(magnitude, small_sum, small_max)
         else
            call accumulate(magnitude, large_sum, large_max)
         end if
      end do

      if (large_sum /= 0) then
         norm = large_max*sqrt(large_sum + (mid_sum/large_max)/large_max)
      else if (mid_sum == 0) then
         norm = small_max*sqrt(small_sum)
      else if (mid_sum >= small_max) then
         norm = sqrt(mid_sum*(1 + (small_max/mid_sum)*(small_max*small_sum)))
      else
         norm = sqrt(small_max*((mid_sum/small_max) + (small_max*small_sum)))
      end if
   end function guarded_norm

   !> Add magnitude² to a sum kept in units of the largest magnitude so far.
   pure subroutine accumulate(magnitude, scaled_sum, largest)
      real(wp), intent(in) :: magnitude
      real(wp), intent(inout) :: scaled_sum, largest

      if (magnitude <= largest) then
         scaled_sum = scaled_sum + (magnitude/largest)**2
      else
         scaled_sum = 1 + scaled_sum*(largest/magnitude)**2
         largest = magnitude
      end if
   end subroutine accumulate

end module leastsq_enorm
