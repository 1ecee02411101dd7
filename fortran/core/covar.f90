!> (JᵀJ)⁻¹ from the pivoted QR of J, and its numerical rank.
!>
!> With J P = Q R, (JᵀJ)⁻¹ = P R⁻¹ R⁻ᵀ Pᵀ (ANL-80-74, covar).
!>
!> Public: covar.  Its data is n-sized.
module leastsq_covar
   use leastsq_kinds, only: wp, ik
   implicit none (type, external)
   private
   public :: covar

contains

   !> rank counts the leading diagonal elements of R above tol*|r(1,1)|.  If
   !> rank < n, cov holds the covariance of the first `rank` pivoted columns among
   !> themselves, and zeros elsewhere.
   pure subroutine covar(n, r, ldr, ipvt, tol, cov, rank, inverse)
      integer(ik), intent(in) :: n
      integer(ik), intent(in) :: ldr              !< leading dimension, >= n
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: tol                 !< relative; with 0 only exact zeros lower the rank
      real(wp), intent(out) :: cov(n, n)          !< symmetric to the bit
      integer(ik), intent(out) :: rank
      real(wp), intent(out) :: inverse(n, n)      !< scratch: rows of R⁻¹
      real(wp) :: total
      integer(ik) :: i, j, k

      rank = 0
      do j = 1, n
         if (.not. abs(r(j, j)) > tol*abs(r(1, 1))) exit
         rank = j
      end do

      ! inverse(k, i) = (R⁻¹)(i, k), so that both loops below run along memory
      do k = 1, rank
         inverse(k, k) = 1/r(k, k)
      end do
      do i = rank - 1, 1, -1
         do k = i + 1, rank
            total = 0
            do j = i + 1, k
               total = total + r(i, j)*inverse(k, j)
            end do
            inverse(k, i) = -total/r(i, i)
         end do
      end do

      cov = 0
      do j = 1, rank
         do i = 1, j
            total = 0
            do k = j, rank
               total = total + inverse(k, i)*inverse(k, j)
            end do
            cov(ipvt(i), ipvt(j)) = total
            cov(ipvt(j), ipvt(i)) = total
         end do
      end do
   end subroutine covar

end module leastsq_covar
