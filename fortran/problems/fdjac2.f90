!> The Jacobian by forward differences (ANL-80-74, fdjac2).
!>
!> Column j is (f(x + h eⱼ) − f(x))/h with h = √max(precision, eps)·|xⱼ|, or the
!> root itself if xⱼ is zero.  With bounds, a step that would leave them goes
!> backwards, or only as far as the bounds allow, and |xⱼ| counts as no smaller than a fraction of
!> its largest value so far: parameters that bounds keep positive often pass close
!> to zero, where MINPACK's step is lost in rounding errors and the column becomes zeros.
!> Where MINPACK's bits are not promised, a step that changes no residual grows: otherwise a
!> parameter would never move if its start is much smaller than the number to which f adds it.
!> All steps follow the rule of difference_steps: here, in batches, for ask and tell, and in
!> Python.
!>
!> Public: differences_t, fdjac2, difference_steps, relative_step.  Its data is m-sized.
module leastsq_fdjac2
   use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_f_pointer, c_int64_t, &
      c_null_ptr, c_ptr
   use leastsq_kinds, only: wp, ik, sk, EPS
   use leastsq_lm_drive, only: problem_t
   implicit none (type, external)
   private
   public :: differences_t, fdjac2, difference_steps, relative_step

   !> How differences are made (core.h: lsq_differences).
   type, bind(c) :: differences_t
      real(c_double) :: precision = 0             !< relative error of f
      integer(c_int64_t) :: grows = 0             !< 1: steps that change no residual grow
      ! n elements each, or NULL.  lo <= moved <= hi; largest is the largest |x| so far.  lo and hi are given
      ! together, and only with largest.
      type(c_ptr) :: lo = c_null_ptr, hi = c_null_ptr, largest = c_null_ptr
   end type differences_t

   real(wp), parameter :: LEAST_PART = 2.0_wp**(-10)   !< |x| counts as at least this fraction of its largest value
   real(wp), parameter :: GROWTH = 1.0e4_wp            !< factor for a step that changes no residual
   real(wp), parameter :: ORDINARY_SIZE = 1.0e-6_wp    !< of |x|
   ! From an ordinary size on a step may grow once, to 1.5e-4 of |x|.  A larger change of x is no
   ! derivative: its slope would hide that f does not depend on x nearby.
   integer(ik), parameter :: ORDINARY_GROWTHS = 1, MOST_GROWTHS = 3

contains

   !> fjac = J(x), given f = f(x).  Asks for n residual vectors, and one more each time that a step grows; each
   !> is written directly into its column.  Ends at the first status other than 0.
   subroutine fdjac2(problem, m, n, x, f, fjac, how, moved, made, status)
      class(problem_t), intent(inout) :: problem
      integer(ik), intent(in) :: m, n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: f(m)                !< f(x)
      real(wp), intent(out) :: fjac(m, n)
      type(differences_t), intent(in) :: how
      real(wp), intent(out) :: moved(n)           !< scratch: x + h eⱼ
      integer(ik), intent(out) :: made            !< residuals asked for
      integer(sk), intent(out) :: status
      real(wp), pointer, contiguous :: lo(:), hi(:), largest(:)
      real(wp) :: h, relative
      integer(ik) :: j
      logical :: bounded, has_largest

      status = 0
      made = 0
      bounded = c_associated(how%lo)
      has_largest = c_associated(how%largest)
      if (bounded) then
         call c_f_pointer(how%lo, lo, [n])
         call c_f_pointer(how%hi, hi, [n])
      end if
      if (has_largest) call c_f_pointer(how%largest, largest, [n])
      relative = relative_step(how%precision)
      moved = x
      do j = 1, n
         call take_step(j, relative, h)
         if (h == 0) then    ! fixed: no derivative is wanted
            fjac(:, j) = 0
            cycle
         end if
         call problem%difference(m, n, moved, f, h, fjac(:, j), status)
         made = made + 1
         if (status == 0 .and. how%grows /= 0) call grow_step(j)
         if (status /= 0) return
         moved(j) = x(j)
      end do

   contains

      subroutine take_step(j, relative, h)
         integer(ik), intent(in) :: j
         real(wp), intent(in) :: relative
         real(wp), intent(out) :: h

         if (bounded) then
            call difference_step(x(j), relative, moved(j), h, lo(j), hi(j), largest(j))
         else if (has_largest) then
            call difference_step(x(j), relative, moved(j), h, largest=largest(j))
         else
            call difference_step(x(j), relative, moved(j), h)
         end if
      end subroutine take_step

      !> Try longer steps while column j is zero.  It stays zero if they leave f's domain or the bounds allow none.
      subroutine grow_step(j)
         integer(ik), intent(in) :: j
         real(wp) :: before, longer
         integer(ik) :: k

         longer = relative
         do k = 1, merge(MOST_GROWTHS, ORDINARY_GROWTHS, abs(x(j)) < ORDINARY_SIZE)
            if (x(j) == 0 .or. any(fjac(:, j) /= 0)) exit
            longer = GROWTH*longer
            before = moved(j)
            call take_step(j, longer, h)
            if (moved(j) == before) exit
            call problem%difference(m, n, moved, f, h, fjac(:, j), status)
            made = made + 1
            if (status /= 0) exit
            if (all(abs(fjac(:, j)) <= huge(1.0_wp))) cycle
            fjac(:, j) = 0
            exit
         end do
      end subroutine grow_step

   end subroutine fdjac2

   !> √max(precision, eps); √eps if precision is NaN.
   elemental function relative_step(precision) result(relative)
      real(wp), intent(in) :: precision
      real(wp) :: relative

      ! not max, because its result for a NaN depends on the compiler
      relative = sqrt(merge(precision, EPS, precision > EPS))
   end function relative_step

   !> The point to which each of n variables is moved for its difference, and the step.
   pure subroutine difference_steps(n, x, relative, stride, moved, steps, lo, hi, largest)
      integer(ik), intent(in) :: n
      real(wp), intent(in) :: x(n)
      real(wp), intent(in) :: relative(*)         !< steps relative to |x|, `stride` apart
      integer(ik), intent(in) :: stride           !< 1, or 0: the same relative step for all
      real(wp), intent(out) :: moved(n)           !< x + steps
      real(wp), intent(out) :: steps(n)           !< 0 where lo = hi
      real(wp), intent(in), optional :: lo(n), hi(n)   !< both or neither: lo <= moved <= hi
      real(wp), intent(in), optional :: largest(n)     !< largest |x| so far
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
         if (LEAST_PART*largest > size) size = LEAST_PART*largest     ! keeps a NaN
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

   !> The point to use when x + h is beyond hi: x − h, or, if that is below lo, the
   !> bound that is further from x.
   elemental function point_within(x, h, lo, hi) result(point)
      real(wp), intent(in) :: x, h, lo, hi
      real(wp) :: point

      point = x - h
      if (point >= lo) return
      point = lo
      if (hi - x > x - lo) point = hi
   end function point_within

end module leastsq_fdjac2
