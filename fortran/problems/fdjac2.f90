!> The Jacobian by forward differences (ANL-80-74, fdjac2).
!>
!> Column j is (f(x + h eⱼ) − f(x))/h with h = √max(epsfcn, eps)·|xⱼ|, or the
!> root itself where xⱼ is zero.  Between bounds a step that would leave them goes
!> back, or as far as there is room, and |xⱼ| counts as no smaller than a part of the
!> largest value that it has had: parameters that bounds keep positive often pass close
!> to zero, where MINPACK's step is lost in rounding errors and the column becomes zeros.
!> difference_steps is the one rule for steps: here, in batches, for ask and tell, and in
!> Python.
!>
!> Public: fdjac2, difference_steps, relative_step.  Its data is m-sized.
module leastsq_fdjac2
   use leastsq_kinds, only: wp, ik, sk, EPS
   use leastsq_lm_drive, only: problem_t
   implicit none (type, external)
   private
   public :: fdjac2, difference_steps, relative_step

   real(wp), parameter :: LEAST_PART = 2.0_wp**(-10)   !< of a variable's largest size

contains

   !> f(x) is given; n residuals are asked for, each straight into its column.
   !> A status other than 0 from any of them ends it.
   subroutine fdjac2(problem, m, n, x, f, fjac, epsfcn, moved, made, status, lo, hi, largest)
      class(problem_t), intent(inout) :: problem
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: f(m)                !< f(x)
      real(wp), intent(out) :: fjac(m, n)
      real(wp), intent(in) :: epsfcn              !< relative error of f
      real(wp), intent(out) :: moved(n)           !< scratch: x + h eⱼ
      integer(ik), intent(out) :: made            !< residuals asked for
      integer(sk), intent(out) :: status
      ! All or none
      real(wp), intent(in), optional :: lo(n), hi(n)   !< lo <= moved <= hi
      real(wp), intent(in), optional :: largest(n)     !< |x| so far
      real(wp) :: h, relative
      integer(ik) :: j

      status = 0
      made = 0
      relative = relative_step(epsfcn)
      moved = x
      do j = 1, n
         if (present(hi)) then
            call difference_step(x(j), relative, moved(j), h, lo(j), hi(j), largest(j))
            if (h == 0) then    ! fixed: no derivative is wanted
               fjac(:, j) = 0
               cycle
            end if
         else
            call difference_step(x(j), relative, moved(j), h)
         end if
         made = made + 1
         call problem%difference(m, n, moved, f, h, fjac(:, j), status)
         if (status /= 0) return
         moved(j) = x(j)
      end do
   end subroutine fdjac2

   !> √max(epsfcn, eps)
   elemental function relative_step(epsfcn) result(relative)
      real(wp), intent(in) :: epsfcn
      real(wp) :: relative

      ! not max: what that makes of a nan is the compiler's choice
      relative = sqrt(merge(epsfcn, EPS, epsfcn > EPS))
   end function relative_step

   !> Where each of n variables is moved for its difference, and by how much.
   pure subroutine difference_steps(n, x, relative, stride, moved, steps, lo, hi, largest)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: relative(*)         !< steps relative to |x|, `stride` apart
      integer(ik), intent(in) :: stride           !< 1, or 0: one for all
      real(wp), intent(out) :: moved(n)           !< x + steps
      real(wp), intent(out) :: steps(n)           !< 0 where lo = hi
      real(wp), intent(in), optional :: lo(n), hi(n)   !< both or neither: lo <= moved <= hi
      real(wp), intent(in), optional :: largest(n)     !< |x| so far
      integer(ik) :: j

      do j = 1, n
         if (present(hi) .and. present(largest)) then
            call difference_step(x(j), relative(1 + (j - 1)*stride), moved(j), steps(j), lo(j), &
               hi(j), largest(j))
         else if (present(hi)) then
            call difference_step(x(j), relative(1 + (j - 1)*stride), moved(j), steps(j), lo(j), hi(j))
         else if (present(largest)) then
            call difference_step(x(j), relative(1 + (j - 1)*stride), moved(j), steps(j), &
               largest=largest(j))
         else
            call difference_step(x(j), relative(1 + (j - 1)*stride), moved(j), steps(j))
         end if
      end do
   end subroutine difference_steps

   !> The same for one variable.
   pure subroutine difference_step(x, relative, moved, h, lo, hi, largest)
      real(wp), intent(in) :: x, relative
      real(wp), intent(out) :: moved, h
      real(wp), intent(in), optional :: lo, hi, largest
      real(wp) :: size

      size = abs(x)
      if (present(largest)) then
         if (LEAST_PART*largest > size) size = LEAST_PART*largest     ! a nan stays
      end if
      h = relative*size
      if (h == 0) h = relative
      moved = x + h
      if (.not. present(hi)) return
      if (moved > hi) then
         moved = point_within(x, h, lo, hi)
         h = moved - x
      end if
   end subroutine difference_step

   !> Where to go from x when x + h is beyond hi: back, or as far as the larger
   !> side lets.
   elemental function point_within(x, h, lo, hi) result(point)
      real(wp), intent(in) :: x, h, lo, hi
      real(wp) :: point

      point = x - h
      if (point >= lo) return
      point = lo
      if (hi - x > x - lo) point = hi
   end function point_within

end module leastsq_fdjac2
