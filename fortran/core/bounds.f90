!> The trust-region step between simple bounds, lo <= x <= hi.
!>
!> Minimizes the model ‖J p + f‖ over the box and the trust region together: guess
!> which variables the bounds hold, find the step of the free variables with
!> lmpar, then exchange the variables that are on the wrong side (block pivoting:
!> Portugal, Júdice, Vicente, Math. Comp. 63, 1994).  To hold a variable, its column
!> is taken out of R, and Givens rotations make R triangular again (LNM 630, 1978, §4).
!> If the exchange cycles, a walk along the bounds replaces it.
!>
!> The model is not trusted near a bound until steps that were cut short have proved it
!> right: until then a step may go only part of the way to each bound (near_box).
!>
!> Public: feasible, find_sides, projected_cosine, near_box, bounded_step,
!> go_within_bounds, predict, free_covar, free_triangle.  Its data is n-sized; the vectors of
!> the step are columns of w (lm_state.f90).
module leastsq_bounds
   use leastsq_kinds, only: wp, ik, EPS
   use leastsq_covar, only: covar
   use leastsq_enorm, only: enorm
   use leastsq_lm_state, only: V_X, V_TRIAL, V_STEP, V_DIAG, V_COLNORM, V_QTF, V_SCRATCH, V_SIDE, V_SLOPE, &
      V_NEAR_LO, V_NEAR_HI, V_RHS, V_TRIANGLE
   use leastsq_lmpar, only: lmpar
   use leastsq_qrsolv, only: damped_solver_t
   use leastsq_products, only: triangle_times, transposed_times
   implicit none (type, external)
   private
   public :: feasible, find_sides, projected_cosine, near_box, bounded_step, go_within_bounds, predict
   public :: free_covar, free_triangle

   ! A variable's side is stored as a real so that it fits in a column of w.
   real(wp), parameter, public :: SIDE_LO = -1     !< held at lo
   real(wp), parameter, public :: SIDE_FREE = 0
   real(wp), parameter, public :: SIDE_HI = 1      !< held at hi

   !> Slopes this small, relative to ‖f‖ and J's column, are rounding errors.
   real(wp), parameter :: SLOPE_NOISE = 10*EPS
   !> The held variables leave at least this fraction of the radius to the free ones.
   real(wp), parameter :: LEAST_RADIUS_LEFT = 0.1_wp
   !> The fraction of the way to a bound that a step may go while the model is fully distrusted.
   real(wp), parameter :: FIRST_PART = 0.5_wp
   !> A distrust this small counts as trust.
   real(wp), parameter :: TRUSTED = 0.01_wp
   !> f does not flatten at a bound nearer than this, relative to |x|.
   real(wp), parameter :: NEAR = 0.5_wp
   !> Rounds without fewer variables to exchange before they are exchanged one at a time.
   integer, parameter :: PATIENCE = 3
   !> Limit on the rounds of exchange, and on the legs of the walk after them.
   integer, parameter :: MOST_ROUNDS = 20

contains

   !> Is lo <= x <= hi?  Not if any of them is NaN.
   pure function feasible(n, x, lo, hi) result(inside)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n), lo(n), hi(n)
      logical :: inside

      inside = all(lo <= x .and. x <= hi)
   end function feasible

   !> The variables at a bound that descent would push out of the box.
   elemental subroutine find_sides(x, lo, hi, gradient, side)
      real(wp), intent(in) :: x, lo, hi
      real(wp), intent(in) :: gradient            !< any positive multiple of it
      real(wp), intent(out) :: side

      side = SIDE_FREE
      if (x >= hi .and. gradient <= 0) side = SIDE_HI
      if (x <= lo .and. gradient >= 0) side = SIDE_LO
      if (lo == hi) side = SIDE_LO
   end subroutine find_sides

   !> Largest |cosine| between f and a column of J whose variable is free.
   pure function projected_cosine(n, gradient, colnorm, side) result(largest)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: gradient(n)         !< Jᵀf/‖f‖
      real(wp), intent(in) :: colnorm(n), side(n)
      real(wp) :: largest
      integer(ik) :: j

      largest = 0
      do j = 1, n
         if (side(j) /= SIDE_FREE .or. colnorm(j) == 0) cycle
         largest = max(largest, abs(gradient(j)/colnorm(j)))
      end do
   end function projected_cosine

   !> The part of the box that the next step may reach (the near box).  It includes a bound that is within
   !> |x|/2 of x, and every bound once the model is trusted.
   elemental subroutine near_box(x, lo, hi, distrust, wary, near_lo, near_hi)
      real(wp), intent(in) :: x, lo, hi           !< lo <= x <= hi
      real(wp), intent(in) :: distrust            !< 1: part of the way; 0: all of it
      real(wp), intent(in) :: wary                !< < 0: exclude lo; > 0: exclude hi
      real(wp), intent(out) :: near_lo, near_hi
      real(wp) :: part
      logical :: distrusted

      near_lo = lo
      near_hi = hi
      distrusted = distrust > TRUSTED
      part = 1 - (1 - FIRST_PART)*max(distrust, TRUSTED)
      if (wary < 0 .or. (distrusted .and. x - lo > NEAR*abs(x))) near_lo = max(lo, x - part*(x - lo))
      if (wary > 0 .or. (distrusted .and. hi - x > NEAR*abs(x))) near_hi = min(hi, x + part*(hi - x))
      if (wary < 0 .and. near_lo <= lo) near_lo = x    ! by rounding
      if (wary > 0 .and. near_hi >= hi) near_hi = x
   end subroutine near_box

   !> The step within the near box.  Sets w's columns V_STEP and V_SIDE (at the end of the step).  Reads V_X,
   !> V_DIAG (D > 0), V_COLNORM, V_QTF, V_SLOPE, V_NEAR_LO and V_NEAR_HI; V_SCRATCH, V_RHS and
   !> V_TRIANGLE are scratch.
   pure subroutine bounded_step(n, r, ldr, ipvt, fnorm, radius, par, w, solver)
      integer(ik), intent(in) :: n
      integer(ik), intent(in) :: ldr              !< leading dimension, >= n
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: fnorm               !< ‖f‖ > 0
      real(wp), intent(in) :: radius              !< Δ > 0
      real(wp), intent(inout) :: par              !< estimate; then the parameter
      real(wp), intent(inout) :: w(n, *)
      class(damped_solver_t), intent(in), optional :: solver   !< replaces qrsolv
      integer(ik) :: amiss, fewest
      integer :: round, patient

      call find_sides(w(:, V_X), w(:, V_NEAR_LO), w(:, V_NEAR_HI), w(:, V_SLOPE), w(:, V_SIDE))
      fewest = n + 1
      patient = PATIENCE
      do round = 1, MOST_ROUNDS
         call free_step(n, r, ldr, ipvt, radius, par, w, w(1, V_STEP), solver)
         call model_slope(n, r, ldr, ipvt, w(1, V_DIAG), fnorm, w(1, V_SLOPE), par, w(1, V_STEP), &
            w(1, V_SCRATCH), w(1, V_SCRATCH + 1))
         amiss = count(should_change(w(:, V_X), w(:, V_NEAR_LO), w(:, V_NEAR_HI), w(:, V_STEP), &
            w(:, V_SIDE), w(:, V_SCRATCH + 1), w(:, V_COLNORM)))
         if (amiss == 0) return
         patient = patient - 1
         if (amiss < fewest) then
            fewest = amiss
            patient = PATIENCE
         end if
         call change_sides(n, w(1, V_X), w(1, V_NEAR_LO), w(1, V_NEAR_HI), w(1, V_STEP), &
            w(1, V_SCRATCH + 1), w(1, V_COLNORM), patient < 0, w(1, V_SIDE))
      end do

      ! The exchange can cycle, because held and free variables share the radius.
      call find_sides(w(:, V_X), w(:, V_NEAR_LO), w(:, V_NEAR_HI), w(:, V_SLOPE), w(:, V_SIDE))
      call walk(n, r, ldr, ipvt, radius, par, w, solver)
   end subroutine bounded_step

   !> The step p: held variables go to their bounds, and free variables take the best step
   !> without regard to bounds.
   pure subroutine free_step(n, r, ldr, ipvt, radius, par, w, p, solver)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: radius
      real(wp), intent(inout) :: par
      real(wp), intent(inout) :: w(n, *)
      real(wp), intent(inout) :: p(n)             !< column V_STEP, or the last scratch column
      class(damped_solver_t), intent(in), optional :: solver
      real(wp) :: left, length
      integer(ik) :: dependent

      p = step_to_bound(w(:, V_X), w(:, V_NEAR_LO), w(:, V_NEAR_HI), w(:, V_SIDE))
      call triangle_times(n, r, ldr, ipvt, p, w(1, V_RHS))
      w(:, V_RHS) = w(:, V_QTF) + w(:, V_RHS)
      call free_triangle(n, r, ldr, ipvt, w(1, V_SIDE), w(1, V_TRIANGLE), w(1, V_RHS), dependent)
      w(:, V_SCRATCH) = w(:, V_DIAG)*p
      left = radius_left(radius, enorm(n, w(1, V_SCRATCH)))
      call lmpar(n, w(1, V_TRIANGLE), n, ipvt, w(1, V_DIAG), w(1, V_RHS), left, par, p, length, &
         w(1, V_SCRATCH), w(1, V_SCRATCH + 1), w(1, V_SCRATCH + 2), solver)
      p = step_to_bound(w(:, V_X), w(:, V_NEAR_LO), w(:, V_NEAR_HI), w(:, V_SIDE)) - p
   end subroutine free_step

   !> Walk from p = 0 towards the free variables' step, in legs.  Each leg ends at the first bound on the
   !> way, which holds its variable from then on, and lowers the model.
   pure subroutine walk(n, r, ldr, ipvt, radius, par, w, solver)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: radius
      real(wp), intent(inout) :: par
      real(wp), intent(inout) :: w(n, *)          !< V_SIDE: at x; then at x + p
      class(damped_solver_t), intent(in), optional :: solver
      integer, parameter :: LEG = V_SCRATCH + 3
      real(wp) :: part, least_part, bound
      integer(ik) :: j, first
      integer :: round

      w(:, V_STEP) = 0
      do round = 1, MOST_ROUNDS
         call free_step(n, r, ldr, ipvt, radius, par, w, w(1, LEG), solver)
         first = 0
         least_part = 1
         do j = 1, n
            if (.not. outside(w(j, V_X), w(j, V_NEAR_LO), w(j, V_NEAR_HI), w(j, LEG)) &
               .or. w(j, V_SIDE) /= SIDE_FREE) cycle
            bound = merge(w(j, V_NEAR_HI), w(j, V_NEAR_LO), w(j, LEG) > 0)
            part = (bound - w(j, V_X) - w(j, V_STEP))/(w(j, LEG) - w(j, V_STEP))
            if (first /= 0 .and. part >= least_part) cycle
            first = j
            least_part = part
         end do
         w(:, V_STEP) = w(:, V_STEP) + least_part*(w(:, LEG) - w(:, V_STEP))
         if (first == 0) return
         w(first, V_SIDE) = merge(SIDE_HI, SIDE_LO, w(first, LEG) > 0)
         w(first, V_STEP) = step_to_bound(w(first, V_X), w(first, V_NEAR_LO), w(first, V_NEAR_HI), &
            w(first, V_SIDE))
      end do
   end subroutine walk

   !> The trial, exactly on the near box's sides where they hold, and the number of sides that cut the step short.
   pure subroutine go_within_bounds(n, w, hits)
      integer(ik), intent(in) :: n
      real(wp), intent(inout) :: w(n, *)          !< reads V_X, V_STEP and V_SIDE; sets V_TRIAL
      integer(ik), intent(out) :: hits

      w(:, V_TRIAL) = min(max(w(:, V_X) + w(:, V_STEP), w(:, V_NEAR_LO)), w(:, V_NEAR_HI))
      where (w(:, V_SIDE) == SIDE_LO) w(:, V_TRIAL) = w(:, V_NEAR_LO)
      where (w(:, V_SIDE) == SIDE_HI) w(:, V_TRIAL) = w(:, V_NEAR_HI)
      hits = count(w(:, V_SIDE) /= SIDE_FREE .and. w(:, V_STEP) /= 0)
   end subroutine go_within_bounds

   !> The model's reduction of ‖f‖² by the step actually taken, and its directional
   !> derivative, both relative to ‖f‖².
   pure subroutine predict(n, jp, qtf, fnorm, predicted, slope)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: jp(n)               !< R Pᵀ p
      real(wp), intent(in) :: qtf(n), fnorm
      real(wp), intent(out) :: predicted, slope
      real(wp) :: y, q
      integer(ik) :: i

      predicted = 0
      slope = 0
      do i = 1, n
         y = jp(i)/fnorm
         q = qtf(i)/fnorm
         predicted = predicted - y*(2*q + y)
         slope = slope + y*q
      end do
      predicted = max(predicted, 0.0_wp)
   end subroutine predict

   !> (JᵀJ)⁻¹ of the columns whose variables are not at a bound; zeros for the others.
   pure subroutine free_covar(n, r, ldr, ipvt, x, lo, hi, cov, side, determined, t, inverse, rhs)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: x(n), lo(n), hi(n)
      real(wp), intent(out) :: cov(n, n), side(n)
      logical, intent(out) :: determined          !< are the free columns independent?
      real(wp), intent(out) :: t(n, n), inverse(n, n), rhs(n)   !< scratch
      integer(ik) :: rank, dependent, j

      side = merge(SIDE_LO, merge(SIDE_HI, SIDE_FREE, x >= hi), x <= lo)
      rhs = 0
      call free_triangle(n, r, ldr, ipvt, side, t, rhs, dependent)
      call covar(n, t, n, ipvt, 0.0_wp, cov, rank, inverse)
      determined = dependent == 0 .and. rank == n
      do j = 1, n
         if (side(j) /= SIDE_FREE) cov(j, j) = 0
      end do
   end subroutine free_covar

   !> The triangle of the free columns of J, in R's order, and its right-hand side.
   !>
   !> Where a variable is held, or its column depends on the columns before it, its row and
   !> column are replaced by those of the identity, with a zero on the right-hand side: the
   !> triangle stays n x n, and the variable's step is exactly zero.
   pure subroutine free_triangle(n, r, ldr, ipvt, side, t, rhs, dependent)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: side(n)
      real(wp), intent(out) :: t(n, n)            !< upper triangle
      real(wp), intent(inout) :: rhs(n)           !< of R; then of t
      integer(ik), intent(out) :: dependent       !< free columns found dependent
      integer(ik) :: i, j

      do j = 1, n
         do i = 1, j
            t(i, j) = 0
            if (side(ipvt(j)) == SIDE_FREE) t(i, j) = r(i, j)
         end do
      end do
      dependent = 0
      do j = 1, n
         if (t(j, j) /= 0) cycle
         if (side(ipvt(j)) == SIDE_FREE) dependent = dependent + 1
         call hand_down(j, n, t, rhs)
         t(j, j) = 1
         rhs(j) = 0
      end do
   end subroutine free_triangle

   !> Rotate row j, whose diagonal is zero, into the rows below it.
   pure subroutine hand_down(j, n, t, rhs)
      integer(ik), intent(in) :: j, n
      real(wp), intent(inout) :: t(n, n), rhs(n)
      real(wp) :: sine, cosine, tangent, cotangent, kept
      integer(ik) :: i, k

      do k = j + 1, n
         if (t(j, k) == 0) cycle
         if (abs(t(k, k)) < abs(t(j, k))) then
            cotangent = t(k, k)/t(j, k)
            sine = 1/sqrt(1 + cotangent**2)
            cosine = sine*cotangent
         else
            tangent = t(j, k)/t(k, k)
            cosine = 1/sqrt(1 + tangent**2)
            sine = cosine*tangent
         end if
         do i = k, n
            kept = cosine*t(k, i) + sine*t(j, i)
            t(j, i) = -sine*t(k, i) + cosine*t(j, i)
            t(k, i) = kept
         end do
         kept = cosine*rhs(k) + sine*rhs(j)
         rhs(j) = -sine*rhs(k) + cosine*rhs(j)
         rhs(k) = kept
         t(j, k) = 0
      end do
   end subroutine hand_down

   !> bound − x where held, 0 where free.
   elemental function step_to_bound(x, lo, hi, side) result(p)
      real(wp), intent(in) :: x, lo, hi, side
      real(wp) :: p

      p = 0
      if (side == SIDE_LO) p = lo - x
      if (side == SIDE_HI) p = hi - x
   end function step_to_bound

   elemental function outside(x, lo, hi, p)
      real(wp), intent(in) :: x, lo, hi, p
      logical :: outside

      outside = p < lo - x .or. p > hi - x
   end function outside

   !> The radius left for the free variables when the held ones use up `used`.
   elemental function radius_left(radius, used) result(left)
      real(wp), intent(in) :: radius, used
      real(wp) :: left

      left = radius*sqrt(max(1 - (used/radius)**2, LEAST_RADIUS_LEFT**2))
   end function radius_left

   !> slope = (Jᵀ(J p + f) + par D² p)/‖f‖.
   pure subroutine model_slope(n, r, ldr, ipvt, diag, fnorm, gradient, par, p, y, slope)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: diag(n), fnorm, gradient(n), par, p(n)
      real(wp), intent(out) :: y(n), slope(n)

      call triangle_times(n, r, ldr, ipvt, p, y)
      y = y/fnorm
      call transposed_times(n, r, ldr, ipvt, y, slope)
      slope = gradient + slope + par*diag*(diag*p/fnorm)
   end subroutine model_slope

   !> Is the variable free but outside the box, or held although the model decreases into the box?
   elemental function should_change(x, lo, hi, p, side, slope, colnorm) result(change)
      real(wp), intent(in) :: x, lo, hi, p, side, slope, colnorm
      logical :: change

      if (side == SIDE_FREE) then
         change = outside(x, lo, hi, p)
      else
         change = side*slope > SLOPE_NOISE*colnorm .and. lo < hi
      end if
   end function should_change

   pure subroutine change_sides(n, x, lo, hi, p, slope, colnorm, only_last, side)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n), lo(n), hi(n), p(n), slope(n), colnorm(n)
      logical, intent(in) :: only_last
      real(wp), intent(inout) :: side(n)
      integer(ik) :: j

      do j = n, 1, -1
         if (.not. should_change(x(j), lo(j), hi(j), p(j), side(j), slope(j), colnorm(j))) cycle
         if (side(j) /= SIDE_FREE) then
            side(j) = SIDE_FREE
         else if (p(j) < lo(j) - x(j)) then
            side(j) = SIDE_LO
         else
            side(j) = SIDE_HI
         end if
         if (only_last) return
      end do
   end subroutine change_sides

end module leastsq_bounds
