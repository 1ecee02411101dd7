!> Second-order corrections, from residuals that most fits have anyway: steps that follow a curved valley.
!>
!> From f at any y = x + d, f″dd ≈ 2(f(y) − f(x) − J d). Only g = Jᵀf″dd is needed, and it follows from
!> Jᵀ(f(y) − f(x)), which is told, and R.  The damped step p is the start of a curve with the acceleration a,
!> where SᵀS a = −Pᵀg (Transtrum and Sethna, arXiv:1201.5885, 2012), and the trial is
!> x + p + a/2.  y is the previous x (*past*: no evaluation), a rejected trial (*second try*), or
!> x plus a small fraction of p (*feeler*).  docs/strategies.md says how the constants were chosen.
!>
!> Public: remember_past, learn_from_past, bend_step, second_try_wanted, try_again, follow_feeler.  Its data is n-sized.
module leastsq_curvature
   use leastsq_kinds, only: wp, ik, ASK_NORM, ASK_FEELER, STRATEGY_ROBUST
   use leastsq_bounds, only: free_triangle, near_box
   use leastsq_lm_state, only: lm_state_t, V_X, V_TRIAL, V_STEP, V_DIAG, V_QTF, V_SCRATCH, V_LO, V_HI, &
      V_SIDE, V_WARY, V_NEAR_LO, V_NEAR_HI, V_RHS, V_TRIANGLE, C_CHANGE, C_LAST_X, C_ALONG, C_BEND, C_SDIAG, C_ANSWER, &
      C_SCRATCH, C_LARGEST, PAST_NONE, PAST_WANTED, PAST_TOLD, curvature_base
   use leastsq_products, only: triangle_times, transposed_times, scaled_norm
   use leastsq_qrsolv, only: qrsolv, damped_solver_t
   implicit none (type, external)
   private
   public :: remember_past, learn_from_past, bend_step, second_try_wanted, try_again, follow_feeler

   real(wp), parameter :: ACCELERATION_MOST = 3      !< limit of 2‖D a‖ in units of ‖D p‖
   real(wp), parameter :: ALIGNMENT_LEAST = 0.7_wp   !< |cos(D d, D p)| from which the curvature along d is used for p
   real(wp), parameter :: SCALING_MOST = 10          !< limit of |β|, p's length along d in units of d's length
   real(wp), parameter :: FEELER_PART = 0.1_wp       !< length of a feeler in units of p
   integer(ik), parameter :: FEELING_ITERATIONS = 3  !< feelers only in the first iterations (the robust strategy: in all)

contains

   !> Called before x becomes the trial: keep x as the previous point.
   pure subroutine remember_past(s, w)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik) :: c

      c = curvature_base(s%n, s%bounded)
      w(:, c + C_LAST_X) = w(:, V_X)
      w(:, c + C_LARGEST) = max(w(:, c + C_LARGEST), abs(w(:, V_TRIAL)))
      s%past = PAST_WANTED
   end subroutine remember_past

   !> After a model was told: the curvature along the way back to the previous x, if C_CHANGE is known for it.
   pure subroutine learn_from_past(s, w, r, ldr, ipvt)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(in) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      integer(ik) :: c

      s%known = 0
      if (s%past == PAST_TOLD) then
         c = curvature_base(s%n, s%bounded)
         w(:, c + C_ALONG) = w(:, c + C_LAST_X) - w(:, V_X)
         call bend(s%n, r, ldr, ipvt, w(1, c + C_CHANGE), w(1, c + C_ALONG), w(1, V_SCRATCH), &
            w(1, c + C_BEND))
         if (all(abs(w(:, c + C_BEND)) <= huge(1.0_wp))) s%known = 1
      end if
      s%past = PAST_NONE
   end subroutine learn_from_past

   !> Bend the proposed step p if the curvature along it is known, or ask for C_CHANGE at a feeler.
   pure subroutine bend_step(s, w, r, ldr, ipvt, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)        !< V_TRIAL is x + p
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)      !< as the step left it, or with Sᵀ anew below its diagonal
      integer(ik), intent(in) :: ipvt(s%n)
      class(damped_solver_t), intent(in), optional :: solver
      real(wp) :: beta
      logical :: feels, small
      integer(ik) :: c

      s%attempt = 0
      s%sound = 0
      if (.not. s%pnorm > 0 .or. is_cut(s, w)) return
      c = curvature_base(s%n, s%bounded)
      call damped_triangle(s, w, r, ldr, ipvt, s%bounded == 0, solver)
      if (s%sound == 0) return
      if (s%known == 1) then
         beta = scaling(s, w)
         if (abs(beta) > 0) then
            call respond(s, w, r, ldr, ipvt, beta**2, c + C_BEND)
            call measure_answer(s, w, small)
            if (small) then
               call bend_trial(s, w)
               return
            end if
         end if
      end if
      feels = s%changes == 1 .and. s%nfev + 1 < s%maxfev .and. &
         (s%strategy == STRATEGY_ROBUST .or. s%iteration <= FEELING_ITERATIONS)
      if (.not. feels) return
      w(:, V_TRIAL) = w(:, V_X) + FEELER_PART*w(:, V_STEP)
      s%request = ASK_FEELER
   end subroutine bend_step

   !> After a feeler: C_CHANGE was told for it, or, if not `answered`, cannot be.
   pure subroutine follow_feeler(s, w, r, ldr, ipvt, answered, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      logical, intent(in) :: answered
      class(damped_solver_t), intent(in), optional :: solver
      logical :: small
      integer(ik) :: c

      s%request = ASK_NORM
      w(:, V_TRIAL) = w(:, V_X) + w(:, V_STEP)
      if (s%bounded /= 0) w(:, V_TRIAL) = min(max(w(:, V_TRIAL), w(:, V_LO)), w(:, V_HI))
      if (.not. answered) return
      c = curvature_base(s%n, s%bounded)
      w(:, c + C_SCRATCH) = FEELER_PART*w(:, V_STEP)
      call bend(s%n, r, ldr, ipvt, w(1, c + C_CHANGE), w(1, c + C_SCRATCH), w(1, V_SCRATCH), &
         w(1, c + C_SCRATCH + 1))
      w(:, c + C_SCRATCH + 1) = w(:, c + C_SCRATCH + 1)/FEELER_PART**2
      call damped_triangle(s, w, r, ldr, ipvt, .false., solver)
      call respond(s, w, r, ldr, ipvt, 1.0_wp, c + C_SCRATCH + 1)
      call measure_answer(s, w, small)
      if (small) call bend_trial(s, w)
   end subroutine follow_feeler

   !> Is a second try wanted, now that the first was rejected?
   pure function second_try_wanted(s, fnorm) result(wanted)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(in) :: fnorm               !< ‖f‖ at the first try
      logical :: wanted
      logical :: converged

      converged = abs(s%actual) <= s%ftol .and. s%predicted <= s%ftol
      wanted = s%changes == 1 .and. s%sound == 1 .and. s%attempt == 0 .and. fnorm <= huge(fnorm) &
         .and. .not. converged
   end function second_try_wanted

   !> After C_CHANGE was told for a rejected trial: propose the second try, if there is one.
   pure subroutine try_again(s, w, r, ldr, ipvt, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      class(damped_solver_t), intent(in), optional :: solver
      logical :: small
      integer(ik) :: c

      if (s%nfev >= s%maxfev) return
      c = curvature_base(s%n, s%bounded)
      w(:, c + C_SCRATCH) = w(:, V_TRIAL) - w(:, V_X)
      call bend(s%n, r, ldr, ipvt, w(1, c + C_CHANGE), w(1, c + C_SCRATCH), w(1, V_SCRATCH), &
         w(1, c + C_SCRATCH + 1))
      call damped_triangle(s, w, r, ldr, ipvt, .false., solver)
      call respond(s, w, r, ldr, ipvt, 1.0_wp, c + C_SCRATCH + 1)
      call measure_answer(s, w, small)
      if (.not. small) return
      w(:, c + C_SCRATCH) = w(:, V_TRIAL)
      call bend_trial(s, w)
      if (all(w(:, V_TRIAL) == w(:, c + C_SCRATCH))) return      ! outside the near box, or the same point
      s%attempt = 1
      s%request = ASK_NORM
   end subroutine try_again

   ! ---------------------------------------------------------------------------

   !> g = Jᵀf″dd = 2(c − P Rᵀ R Pᵀ d), where c = Jᵀ(f(x + d) − f(x)).
   pure subroutine bend(n, r, ldr, ipvt, change, d, scratch, g)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)           !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: change(n), d(n)
      real(wp), intent(out) :: scratch(n), g(n)

      call triangle_times(n, r, ldr, ipvt, d, scratch)
      call transposed_times(n, r, ldr, ipvt, scratch, g)
      g = 2*(change - g)
   end subroutine bend

   !> Do bounds cut the step, or hold a variable that is not fixed?
   pure function is_cut(s, w)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(in) :: w(s%n, *)
      logical :: is_cut

      is_cut = .false.
      if (s%bounded == 0) return
      is_cut = s%hits > 0 .or. any(w(:, V_SIDE) /= 0 .and. w(:, V_LO) < w(:, V_HI))
   end function is_cut

   !> S of the last step: its diagonal in C_SDIAG and, with damping, Sᵀ below the diagonal of r (with bounds,
   !> of V_TRIANGLE).  s%sound says whether S is finite and nonsingular.
   pure subroutine damped_triangle(s, w, r, ldr, ipvt, fresh, solver)
      type(lm_state_t), intent(inout) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(inout) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      logical, intent(in) :: fresh                !< r and V_SCRATCH (the diagonal) are as lmpar has just left them
      class(damped_solver_t), intent(in), optional :: solver
      integer(ik) :: c, dependent

      c = curvature_base(s%n, s%bounded)
      if (s%bounded /= 0) then
         w(:, V_RHS) = 0
         call free_triangle(s%n, r, ldr, ipvt, w(1, V_SIDE), w(1, V_TRIANGLE), w(1, V_RHS), dependent)
         call damp(s%n, w(1, V_TRIANGLE), s%n, ipvt, w(1, V_QTF), w(1, V_DIAG), s%par, w(1, c + C_SDIAG), &
            w(1, V_SCRATCH), w(1, V_SCRATCH + 1), w(1, V_SCRATCH + 2), solver)
      else if (fresh .and. s%par > 0) then
         w(:, c + C_SDIAG) = w(:, V_SCRATCH)
      else
         call damp(s%n, r, ldr, ipvt, w(1, V_QTF), w(1, V_DIAG), s%par, w(1, c + C_SDIAG), &
            w(1, V_SCRATCH), w(1, V_SCRATCH + 1), w(1, V_SCRATCH + 2), solver)
      end if
      s%sound = 0
      if (all(w(:, c + C_SDIAG) /= 0 .and. abs(w(:, c + C_SDIAG)) <= huge(1.0_wp))) s%sound = 1
   end subroutine damped_triangle

   pure subroutine damp(n, r, ldr, ipvt, qtf, diag, par, sdiag, damping, x, scratch, solver)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(inout) :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)
      real(wp), intent(in) :: qtf(n), diag(n), par
      real(wp), intent(out) :: sdiag(n)
      real(wp), intent(out) :: damping(n), x(n), scratch(n)
      class(damped_solver_t), intent(in), optional :: solver
      integer(ik) :: j

      if (par == 0) then
         do j = 1, n
            sdiag(j) = r(j, j)
         end do
         return
      end if
      damping = sqrt(par)*diag
      if (present(solver)) then
         call solver%solve(n, r, ldr, ipvt, damping, qtf, x, sdiag, scratch)
      else
         call qrsolv(n, r, ldr, ipvt, damping, qtf, x, sdiag, scratch)
      end if
   end subroutine damp

   !> β, p's length along C_ALONG in D's norm; 0 unless the two are nearly parallel.
   pure function scaling(s, w) result(beta)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(in) :: w(s%n, *)
      real(wp) :: beta
      real(wp) :: scratch, along, cosine
      integer(ik) :: c, j

      beta = 0
      c = curvature_base(s%n, s%bounded)
      along = 0
      do j = 1, s%n
         scratch = abs(w(j, V_DIAG)*w(j, c + C_ALONG))
         along = max(along, scratch)
      end do
      if (.not. (along > 0 .and. along <= huge(along))) return
      scratch = 0
      do j = 1, s%n
         scratch = scratch + (w(j, V_DIAG)*w(j, c + C_ALONG)/along)**2
      end do
      along = along*sqrt(scratch)
      cosine = 0
      do j = 1, s%n
         cosine = cosine + (w(j, V_DIAG)*w(j, c + C_ALONG)/along)*(w(j, V_DIAG)*w(j, V_STEP)/s%pnorm)
      end do
      if (.not. abs(cosine) > ALIGNMENT_LEAST) return
      beta = cosine*s%pnorm/along
      if (.not. abs(beta) <= SCALING_MOST) beta = 0
   end function scaling

   !> C_ANSWER = a, the acceleration for v = scale times the curvature in w(:, column): SᵀS z = −Pᵀv, a = P z.
   pure subroutine respond(s, w, r, ldr, ipvt, scale, column)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik), intent(in) :: ldr
      real(wp), intent(in) :: r(ldr, s%n)
      integer(ik), intent(in) :: ipvt(s%n)
      real(wp), intent(in) :: scale
      integer(ik), intent(in) :: column
      integer(ik) :: c

      c = curvature_base(s%n, s%bounded)
      w(:, V_SCRATCH) = -(scale*w(:, column))
      if (s%bounded /= 0) then
         where (w(:, V_SIDE) /= 0) w(:, V_SCRATCH) = 0
         call solve_twice(s%n, w(1, V_TRIANGLE), s%n, ipvt, s%par > 0, w(1, c + C_SDIAG), w(1, V_SCRATCH), &
            w(1, V_SCRATCH + 1), w(1, c + C_ANSWER))
      else
         call solve_twice(s%n, r, ldr, ipvt, s%par > 0, w(1, c + C_SDIAG), w(1, V_SCRATCH), &
            w(1, V_SCRATCH + 1), w(1, c + C_ANSWER))
      end if
   end subroutine respond

   pure subroutine solve_twice(n, r, ldr, ipvt, damped, sdiag, v, z, a)
      integer(ik), intent(in) :: n, ldr
      real(wp), intent(in) :: r(ldr, n)           !< R and, if damped, Sᵀ below its diagonal
      integer(ik), intent(in) :: ipvt(n)
      logical, intent(in) :: damped
      real(wp), intent(in) :: sdiag(n), v(n)
      real(wp), intent(out) :: z(n), a(n)
      integer(ik) :: i, j

      do j = 1, n
         z(j) = v(ipvt(j))
      end do
      if (damped) then
         do j = 1, n
            z(j) = z(j)/sdiag(j)
            do i = j + 1, n
               z(i) = z(i) - r(i, j)*z(j)
            end do
         end do
         do j = n, 1, -1
            do i = j + 1, n
               z(j) = z(j) - r(i, j)*z(i)
            end do
            z(j) = z(j)/sdiag(j)
         end do
      else
         do j = 1, n
            do i = 1, j - 1
               z(j) = z(j) - r(i, j)*z(i)
            end do
            z(j) = z(j)/sdiag(j)
         end do
         do j = n, 1, -1
            z(j) = z(j)/sdiag(j)
            do i = 1, j - 1
               z(i) = z(i) - r(i, j)*z(j)
            end do
         end do
      end if
      do j = 1, n
         a(ipvt(j)) = z(j)
      end do
   end subroutine solve_twice

   !> Is a finite, and not too large compared with p?
   pure subroutine measure_answer(s, w, small)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(inout) :: w(s%n, *)
      logical, intent(out) :: small
      real(wp) :: length
      integer(ik) :: c

      c = curvature_base(s%n, s%bounded)
      small = all(abs(w(:, c + C_ANSWER)) <= huge(1.0_wp))
      if (.not. small) return
      call scaled_norm(s%n, w(1, V_DIAG), w(1, c + C_ANSWER), w(1, V_SCRATCH), length)
      small = 2*length <= ACCELERATION_MOST*s%pnorm
   end subroutine measure_answer

   !> The trial becomes x + p + a/2; with bounds only if that is within the near box.
   pure subroutine bend_trial(s, w)
      type(lm_state_t), intent(in) :: s
      real(wp), intent(inout) :: w(s%n, *)
      integer(ik) :: c

      c = curvature_base(s%n, s%bounded)
      w(:, V_SCRATCH) = w(:, V_X) + (w(:, V_STEP) + 0.5_wp*w(:, c + C_ANSWER))
      if (s%bounded /= 0) then
         call near_box(w(:, V_X), w(:, V_LO), w(:, V_HI), s%distrust, w(:, V_WARY), w(:, V_NEAR_LO), &
            w(:, V_NEAR_HI))
         if (.not. all(w(:, V_NEAR_LO) <= w(:, V_SCRATCH) .and. w(:, V_SCRATCH) <= w(:, V_NEAR_HI))) return
      end if
      w(:, V_TRIAL) = w(:, V_SCRATCH)
   end subroutine bend_trial

end module leastsq_curvature
