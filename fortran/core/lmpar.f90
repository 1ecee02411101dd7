!> The Levenberg–Marquardt parameter: how much damping the trust region needs.
!>
!> Finds par >= 0 and x, the least-squares solution of [A; √par D] x = [b; 0],
!> so that either par = 0 and ‖D x‖ <= 1.1 Δ, or ‖D x‖ is within 10 % of Δ:
!> Newton's iteration on φ(par) = ‖D x‖ − Δ, safeguarded between bounds
!> (Moré, LNM 630, 1978, §5; ANL-80-74, lmpar).
!>
!> Public: lmpar.  Its data is n-sized.
module leastsq_lmpar
   use leastsq_kinds, only: wp, ik, DWARF
   use leastsq_enorm, only: enorm
   use leastsq_qrsolv, only: qrsolv, damped_solver_t
   implicit none (type, external)
   private
   public :: lmpar

   real(wp), parameter :: RADIUS_TOLERANCE = 0.1_wp
   real(wp), parameter :: LEAST_FRACTION_OF_UPPER = 0.001_wp
   integer, parameter :: MOST_NEWTON_STEPS = 10

contains

   pure subroutine lmpar(n, r, ldr, ipvt, diag, qtb, delta, par, x, length, sdiag, wa1, wa2, &
      solver)
      integer(ik), intent(in) :: n
      integer(ik), intent(in) :: ldr              !< leading dimension, >= n
      !> Upper triangle: R, kept.  Strict lower triangle on return: that of Sᵀ,
      !> if any damping was tried.
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: diag(n)             !< D, > 0
      real(wp), intent(in) :: qtb(n)              !< first n elements of Q'b
      real(wp), intent(in) :: delta               !< radius Δ > 0
      real(wp), intent(inout) :: par              !< estimate; then the parameter
      real(wp), intent(out) :: x(n)               !< the step
      real(wp), intent(out) :: length             !< ‖D x‖
      real(wp), intent(out) :: sdiag(n)           !< diagonal of S
      real(wp), intent(out) :: wa1(n), wa2(n)     !< scratch
      class(damped_solver_t), intent(in), optional :: solver  !< replaces qrsolv
      real(wp) :: lower, upper, excess, last_excess, gradient, correction
      integer(ik) :: j
      integer :: step
      logical :: full_rank, near, below_and_shrinking

      ! The undamped (Gauss-Newton) step may be short enough.
      call gauss_newton(n, r, ldr, ipvt, qtb, x, wa1, full_rank)
      wa2 = diag*x
      length = enorm(n, wa2)
      excess = length - delta
      if (excess <= RADIUS_TOLERANCE*delta) then
         par = 0
         return
      end if

      ! Bounds on par: the lower one is Newton's step from 0, if φ'(0) exists; the upper one
      ! comes from the gradient.
      lower = 0
      if (full_rank) then
         do j = 1, n
            wa1(j) = diag(ipvt(j))*(wa2(ipvt(j))/length)
         end do
         call solve_transposed(n, r, ldr, wa1)
         lower = newton_correction(excess, delta, enorm(n, wa1))
      end if
      do j = 1, n
         wa1(j) = dot(j, r(1, j), qtb)/diag(ipvt(j))
      end do
      gradient = enorm(n, wa1)
      upper = gradient/delta
      if (upper == 0) upper = DWARF/min(delta, RADIUS_TOLERANCE)
      par = max(par, lower)
      par = min(par, upper)
      if (par == 0) par = gradient/length

      do step = 1, MOST_NEWTON_STEPS
         if (par == 0) par = max(DWARF, LEAST_FRACTION_OF_UPPER*upper)
         wa1 = sqrt(par)*diag
         if (present(solver)) then
            call solver%solve(n, r, ldr, ipvt, wa1, qtb, x, sdiag, wa2)
         else
            call qrsolv(n, r, ldr, ipvt, wa1, qtb, x, sdiag, wa2)
         end if
         wa2 = diag*x
         length = enorm(n, wa2)
         last_excess = excess
         excess = length - delta

         near = abs(excess) <= RADIUS_TOLERANCE*delta
         below_and_shrinking = lower == 0 .and. excess <= last_excess .and. last_excess < 0
         if (near .or. below_and_shrinking .or. step == MOST_NEWTON_STEPS) exit

         do j = 1, n
            wa1(j) = diag(ipvt(j))*(wa2(ipvt(j))/length)
         end do
         call solve_s(n, r, ldr, sdiag, wa1)
         correction = newton_correction(excess, delta, enorm(n, wa1))
         if (excess > 0) lower = max(lower, par)
         if (excess < 0) upper = min(upper, par)
         par = max(lower, par + correction)
      end do
   end subroutine lmpar

   !> x = P R⁻¹ Q'b; if R is singular, a least-squares solution.
   !>
   !> Each division waits for the previous one, so the dividend is kept in a register and not
   !> stored and loaded again.
   pure subroutine gauss_newton(n, r, ldr, ipvt, qtb, x, z, full_rank)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: qtb(n)
      real(wp), intent(out) :: x(n), z(n)
      logical, intent(out) :: full_rank
      real(wp) :: dividend
      integer(ik) :: i, j, rank

      rank = n
      do j = 1, n
         z(j) = qtb(j)
         if (r(j, j) == 0 .and. rank == n) rank = j - 1
         if (rank < n) z(j) = 0
      end do
      dividend = z(max(rank, 1_ik))
      do j = rank, 2, -1
         z(j) = dividend/r(j, j)
         dividend = z(j - 1) - r(j - 1, j)*z(j)
         do i = 1, j - 2
            z(i) = z(i) - r(i, j)*z(j)
         end do
      end do
      if (rank > 0) z(1) = dividend/r(1, 1)
      do j = 1, n
         x(ipvt(j)) = z(j)
      end do
      full_rank = rank == n
   end subroutine gauss_newton

   !> z becomes R⁻ᵀ z.
   pure subroutine solve_transposed(n, r, ldr, z)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      real(wp), intent(inout) :: z(n)
      integer(ik) :: j

      do j = 1, n
         z(j) = (z(j) - dot(j - 1, r(1, j), z))/r(j, j)
      end do
   end subroutine solve_transposed

   !> z becomes S⁻ᵀ z, with Sᵀ below the diagonal of r.
   pure subroutine solve_s(n, r, ldr, sdiag, z)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n), sdiag(n)
      real(wp), intent(inout) :: z(n)
      integer(ik) :: i, j

      do j = 1, n
         z(j) = z(j)/sdiag(j)
         do i = j + 1, n
            z(i) = z(i) - r(i, j)*z(j)
         end do
      end do
   end subroutine solve_s

   !> −φ/φ' scaled as Moré's (5.4): (φ/Δ)/‖·‖², divided twice to avoid overflow.
   pure function newton_correction(excess, delta, norm) result(correction)
      real(wp), intent(in) :: excess, delta, norm
      real(wp) :: correction

      correction = ((excess/delta)/norm)/norm
   end function newton_correction

   !> Σ a(i) b(i), first to last.
   pure function dot(n, a, b) result(total)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: a(n), b(n)
      real(wp) :: total
      integer(ik) :: i

      total = 0
      do i = 1, n
         total = total + a(i)*b(i)
      end do
   end function dot

end module leastsq_lmpar
