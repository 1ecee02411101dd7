!> The least-squares step with a diagonal appended, by Givens rotations.
!>
!> Given R, P and Q'b of A P = Q R, solves [A; D] x = [b; 0] in the least-squares
!> sense: the rows of D P are rotated into R one by one, leaving the triangle S
!> with Pᵀ(AᵀA + D²)P = SᵀS (Moré, LNM 630, 1978, §4; ANL-80-74, qrsolv).
!>
!> Public: qrsolv; damped_solver_t, the interface of faster solvers for large n.
!> Its data is n-sized.
module leastsq_qrsolv
   use leastsq_kinds, only: wp, ik
   implicit none (type, external)
   private
   public :: qrsolv, damped_solver_t

   !> A replacement for qrsolv, with the same results up to rounding.
   type, abstract :: damped_solver_t
   contains
      procedure(solve_i), deferred :: solve
   end type damped_solver_t

   abstract interface
      !> Arguments as qrsolv's.
      pure subroutine solve_i(self, n, r, ldr, ipvt, diag, qtb, x, sdiag, wa)
         import :: damped_solver_t, wp, ik
         implicit none (type, external)
         class(damped_solver_t), intent(in) :: self
         integer(ik), intent(in) :: n, ldr
         real(wp), intent(inout) :: r(ldr, n)
         integer(ik), intent(in) :: ipvt(n)
         real(wp), intent(in) :: diag(n), qtb(n)
         real(wp), intent(out) :: x(n), sdiag(n), wa(n)
      end subroutine solve_i
   end interface

contains

   pure subroutine qrsolv(n, r, ldr, ipvt, diag, qtb, x, sdiag, wa)
      integer(ik), intent(in) :: n
      integer(ik), intent(in) :: ldr              !< leading dimension, >= n
      !> Upper triangle: R, kept.  Strict lower triangle on return: that of Sᵀ.
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: diag(n)             !< D, in the order of A's columns
      real(wp), intent(in) :: qtb(n)              !< first n elements of Q'b
      real(wp), intent(out) :: x(n)               !< the solution
      real(wp), intent(out) :: sdiag(n)           !< diagonal of S
      real(wp), intent(out) :: wa(n)              !< scratch
      real(wp) :: total
      integer(ik) :: i, j, rank

      ! Work on the lower triangle, which starts as Rᵀ; x keeps R's diagonal.
      do j = 1, n
         do i = j, n
            r(i, j) = r(j, i)
         end do
         x(j) = r(j, j)
         wa(j) = qtb(j)
      end do
      do j = 1, n
         if (diag(ipvt(j)) /= 0) call rotate_in(j, n, r, ldr, diag(ipvt(j)), sdiag, wa)
         sdiag(j) = r(j, j)
         r(j, j) = x(j)
      end do

      ! Solve S z = wa; from the first zero on S's diagonal on, z is zero.
      rank = n
      do j = 1, n
         if (sdiag(j) == 0 .and. rank == n) rank = j - 1
         if (rank < n) wa(j) = 0
      end do
      do j = rank, 1, -1
         total = 0
         do i = j + 1, rank
            total = total + r(i, j)*wa(i)
         end do
         wa(j) = (wa(j) - total)/sdiag(j)
      end do
      do j = 1, n
         x(ipvt(j)) = wa(j)
      end do
   end subroutine qrsolv

   !> Rotate a row whose only nonzero element is d, in column j, into the triangle.
   !> `row` holds its fill-in, wa the right-hand side.
   pure subroutine rotate_in(j, n, r, ldr, d, row, wa)
      integer(ik), intent(in) :: j, n, ldr
      real(wp), intent(inout) :: r(ldr, n), row(n), wa(n)
      real(wp), intent(in) :: d
      real(wp) :: row_rhs, sine, cosine, tangent, cotangent, kept
      integer(ik) :: i, k

      row(j:n) = 0
      row(j) = d
      row_rhs = 0
      do k = j, n
         if (row(k) == 0) cycle
         if (abs(r(k, k)) < abs(row(k))) then
            cotangent = r(k, k)/row(k)
            sine = 0.5_wp/sqrt(0.25_wp + 0.25_wp*cotangent**2)
            cosine = sine*cotangent
         else
            tangent = row(k)/r(k, k)
            cosine = 0.5_wp/sqrt(0.25_wp + 0.25_wp*tangent**2)
            sine = cosine*tangent
         end if
         r(k, k) = cosine*r(k, k) + sine*row(k)
         kept = cosine*wa(k) + sine*row_rhs
         row_rhs = -sine*wa(k) + cosine*row_rhs
         wa(k) = kept
         do i = k + 1, n
            kept = cosine*r(i, k) + sine*row(i)
            row(i) = -sine*r(i, k) + cosine*row(i)
            r(i, k) = kept
         end do
      end do
   end subroutine rotate_in

end module leastsq_qrsolv
