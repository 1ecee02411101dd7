!> Products with the triangle R of a column-pivoted QR, J P = Q R.
!>
!> ‖J p‖ = ‖R Pᵀ p‖ and Jᵀ f = P Rᵀ (Q'f), so J itself, which has the length of the
!> data, is not needed (Moré, LNM 630, 1978, §3).
!>
!> Public: triangle_times, transposed_times, largest_cosine, scaled_norm.  Its data
!> is n-sized.
module leastsq_products
   use leastsq_kinds, only: wp, ik
   use leastsq_enorm, only: enorm
   implicit none (type, external)
   private
   public :: triangle_times, transposed_times, largest_cosine, scaled_norm

contains

   !> y = R Pᵀ p, summed column by column, two columns at a time to halve the number of
   !> loads and stores of y.
   pure subroutine triangle_times(n, r, ldr, ipvt, p, y)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: p(n)
      real(wp), intent(out) :: y(n)
      real(wp) :: p_j, p_k
      integer(ik) :: i, j

      do j = 1, n - 1, 2
         p_j = p(ipvt(j))
         p_k = p(ipvt(j + 1))
         y(j) = 0
         do i = 1, j
            y(i) = (y(i) + r(i, j)*p_j) + r(i, j + 1)*p_k
         end do
         y(j + 1) = 0 + r(j + 1, j + 1)*p_k
      end do
      if (j > n) return
      p_j = p(ipvt(n))
      y(n) = 0
      do i = 1, n
         y(i) = y(i) + r(i, n)*p_j
      end do
   end subroutine triangle_times

   !> g = P Rᵀ y.
   pure subroutine transposed_times(n, r, ldr, ipvt, y, g)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: y(n)
      real(wp), intent(out) :: g(n)
      real(wp) :: total
      integer(ik) :: i, j

      do j = 1, n
         total = 0
         do i = 1, j
            total = total + r(i, j)*y(i)
         end do
         g(ipvt(j)) = total
      end do
   end subroutine transposed_times

   !> Largest |cosine| between f and a column of J, from R and Q'f.
   pure subroutine largest_cosine(n, r, ldr, ipvt, qtf, colnorm, fnorm, unit, largest)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: qtf(n), colnorm(n), fnorm
      real(wp), intent(out) :: unit(n)            !< scratch: Q'f/‖f‖
      real(wp), intent(out) :: largest
      real(wp) :: total
      integer(ik) :: i, j

      largest = 0
      if (fnorm == 0) return
      do i = 1, n
         unit(i) = qtf(i)/fnorm
      end do
      do j = 1, n
         if (colnorm(ipvt(j)) == 0) cycle
         total = 0
         do i = 1, j
            total = total + r(i, j)*unit(i)
         end do
         largest = max(largest, abs(total/colnorm(ipvt(j))))
      end do
   end subroutine largest_cosine

   !> norm = ‖D v‖.
   pure subroutine scaled_norm(n, d, v, product, norm)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: d(n), v(n)
      real(wp), intent(out) :: product(n)
      real(wp), intent(out) :: norm
      integer(ik) :: i

      do i = 1, n
         product(i) = d(i)*v(i)
      end do
      norm = enorm(n, product)
   end subroutine scaled_norm

end module leastsq_products
