!> Euclidean norms that neither overflow nor underflow.
!>
!> MINPACK's guarded norm (Moré, Garbow, Hillstrom, ANL-80-74, enorm): three
!> running sums for small, mid-range and large elements.  Where all elements are
!> mid-range or zero, the two outer sums stay empty and the norm is the square
!> root of the plain sum, with the same bits; that is tried first.
!>
!> Public: enorm, column_norms.  For n- and m-sized data.
module leastsq_enorm
   use leastsq_kinds, only: wp, ik
   implicit none (type, external)
   private
   public :: enorm, column_norms

   real(wp), parameter :: SMALLEST_SQUARABLE = 3.834e-20_wp
   real(wp), parameter :: LARGEST_SQUARABLE = 1.304e19_wp   ! divided by the length

contains

   !> ‖x‖ of a vector of length n.
   pure function enorm(n, x) result(norm)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp) :: norm
      real(wp) :: total, magnitude, least
      integer(ik) :: i

      total = 0
      least = 1
      do i = 1, n
         magnitude = abs(x(i))
         total = total + magnitude*magnitude
         least = merge(magnitude, least, magnitude < least)
      end do
      norm = settle(n, x, total, least)
   end function enorm

   !> The norms of the n columns of a, each with the bits of enorm.
   !>
   !> A sum of squares is one chain of additions, each waiting for the one
   !> before; four columns at once keep four chains going.
   pure subroutine column_norms(m, n, a, lda, norms)
      integer(ik), intent(in) :: m, n, lda
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(out) :: norms(n)
      integer(ik) :: j

      if (m == 0) then
         norms = 0
         return
      end if
      j = 1
      do while (n - j >= 3)
         call four_norms(m, a(1, j), a(1, j + 1), a(1, j + 2), a(1, j + 3), norms(j))
         j = j + 4
      end do
      if (n - j >= 1) then
         call two_norms(m, a(1, j), a(1, j + 1), norms(j))
         j = j + 2
      end if
      if (j == n) norms(j) = enorm(m, a(1, j))
   end subroutine column_norms

   pure subroutine four_norms(m, a, b, c, d, norms)
      integer(ik), intent(in) :: m
      real(wp), intent(in) :: a(m), b(m), c(m), d(m)
      real(wp), intent(out) :: norms(4)
      real(wp) :: ta, tb, tc, td, la, lb, lc, ld
      integer(ik) :: i

      ta = 0; tb = 0; tc = 0; td = 0
      la = 1; lb = 1; lc = 1; ld = 1
      do i = 1, m
         ta = ta + a(i)*a(i)
         tb = tb + b(i)*b(i)
         tc = tc + c(i)*c(i)
         td = td + d(i)*d(i)
         la = merge(abs(a(i)), la, abs(a(i)) < la)
         lb = merge(abs(b(i)), lb, abs(b(i)) < lb)
         lc = merge(abs(c(i)), lc, abs(c(i)) < lc)
         ld = merge(abs(d(i)), ld, abs(d(i)) < ld)
      end do
      norms(1) = settle(m, a, ta, la)
      norms(2) = settle(m, b, tb, lb)
      norms(3) = settle(m, c, tc, lc)
      norms(4) = settle(m, d, td, ld)
   end subroutine four_norms

   pure subroutine two_norms(m, a, b, norms)
      integer(ik), intent(in) :: m
      real(wp), intent(in) :: a(m), b(m)
      real(wp), intent(out) :: norms(2)
      real(wp) :: ta, tb, la, lb
      integer(ik) :: i

      ta = 0; tb = 0
      la = 1; lb = 1
      do i = 1, m
         ta = ta + a(i)*a(i)
         tb = tb + b(i)*b(i)
         la = merge(abs(a(i)), la, abs(a(i)) < la)
         lb = merge(abs(b(i)), lb, abs(b(i)) < lb)
      end do
      norms(1) = settle(m, a, ta, la)
      norms(2) = settle(m, b, tb, lb)
   end subroutine two_norms

   !> The norm from the plain sum of squares and the least magnitude (at most
   !> 1), if these prove that every element is mid-range; else the guarded way.
   !>
   !> Every square is at most the sum, also after rounding, so a sum below the
   !> square of the large limit shows that no element reaches it.  A NaN makes
   !> the comparison false.
   pure function settle(n, x, total, least) result(norm)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: total, least
      real(wp) :: norm, large_limit
      logical :: none_large, none_small

      large_limit = LARGEST_SQUARABLE/real(n, wp)
      none_large = total < large_limit*large_limit
      none_small = least > SMALLEST_SQUARABLE
      if (none_large .and. none_small) then
         norm = sqrt(total)
      else if (none_large .and. .not. any_small(n, x)) then
         norm = sqrt(total)
      else
         norm = guarded_norm(n, x)
      end if
   end function settle

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

   !> The norm by three sums; the outer two are scaled by their largest element.
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
