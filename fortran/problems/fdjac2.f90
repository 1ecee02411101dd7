!> The Jacobian by forward differences (ANL-80-74, fdjac2).
!>
!> Column j is (f(x + h eⱼ) − f(x))/h with h = √max(epsfcn, eps)·|xⱼ|, or the
!> root itself where xⱼ is zero.  Between bounds a step that would leave them goes
!> back, or as far as there is room, and xⱼ counts as no smaller than a part of the
!> largest that it was: parameters that bounds keep positive often pass close to zero,
!> where MINPACK's step drowns in rounding errors and the column becomes zeros.
!>
!> Public: fdjac2, difference_point.  Its data is m-sized.
module leastsq_fdjac2
   use leastsq_kinds, only: wp, ik, sk, EPS
   use leastsq_lm_drive, only: problem_t
   implicit none (type, external)
   private
   public :: fdjac2, difference_point

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
      real(wp) :: h
      integer(ik) :: j

      status = 0
      made = 0
      moved = x
      do j = 1, n
         if (present(hi)) then
            call difference_point(x(j), epsfcn, moved(j), h, lo(j), hi(j), largest(j))
            if (h == 0) then    ! fixed: no derivative is wanted
               fjac(:, j) = 0
               cycle
            end if
         else
            call difference_point(x(j), epsfcn, moved(j), h)
         end if
         made = made + 1
         call problem%difference(m, n, moved, f, h, fjac(:, j), status)
         if (status /= 0) return
         moved(j) = x(j)
      end do
   end subroutine fdjac2

   !> The step from x, and where it leads: 0 if lo = hi.
   pure subroutine difference_point(x, epsfcn, point, h, lo, hi, largest)
      real(wp), intent(in) :: x, epsfcn
      real(wp), intent(out) :: point, h
      real(wp), intent(in), optional :: lo, hi, largest    !< all or none
      real(wp) :: relative_step

      ! not max: what that makes of a nan is the compiler's choice
      relative_step = sqrt(merge(epsfcn, EPS, epsfcn > EPS))
      h = relative_step*abs(x)
      if (present(hi)) h = relative_step*max(abs(x), LEAST_PART*largest)
      if (h == 0) h = relative_step
      point = x + h
      if (.not. present(hi)) return
      if (point > hi) then
         point = point_within(x, h, lo, hi)
         h = point - x
      end if
   end subroutine difference_point

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
