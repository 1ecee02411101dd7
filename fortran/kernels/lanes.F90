#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> The inner loops of a QR of several matrices at once, one in each vector lane.
!>
!> Each operation that qrfac.f90 performs on a number is performed here on one number of
!> each matrix.  Every lane's sums run in MINPACK's order and nothing is contracted
!> (meson.build), so each matrix gets MINPACK's bits.  Decisions are in qrfac_lanes.f90.
!>
!> The outer loop runs over lanes, and the compiler turns it into one vector; the inner loop
!> keeps its sums in registers.  The inner loop must be known to run at least once for this,
!> hence its form.  Six columns at once keep six chains of additions going; where fewer
!> are left, the last one is repeated, at no cost.
!>
!> Public: lsq_lanes_..._<ISA>, for C too.  The data is m-sized.
module TAGGED(leastsq_lanes)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   implicit none (type, external)
   private
   public :: TAGGED(lsq_lanes_squares), TAGGED(lsq_lanes_reflect)
   public :: TAGGED(lsq_lanes_downdate), TAGGED(lsq_lanes_update)

   !> Matrices at once: LANES of qrfac_lanes.f90.
   integer, parameter :: LANES = 8

contains

   !> totals = the sums of squares of the columns of a.
   pure subroutine TAGGED(lsq_lanes_squares)(m, n, a, totals) bind(c)
      integer(ik), intent(in), value :: m         !< rows, >= 1
      integer(ik), intent(in), value :: n         !< columns
      real(wp), intent(in) :: a(LANES, m, n)
      real(wp), intent(inout) :: totals(LANES, n)
      real(wp) :: six(LANES, 6)
      integer(ik) :: c(6), j, k

      do j = 1, n, 6
         c = [(min(j + k, n), k = 0, 5)]
         call squares6(m, a(1, 1, c(1)), a(1, 1, c(2)), a(1, 1, c(3)), a(1, 1, c(4)), &
            a(1, 1, c(5)), a(1, 1, c(6)), six)
         do k = j, min(j + 5, n)
            totals(:, k) = six(:, k - j + 1)
         end do
      end do
   end subroutine TAGGED(lsq_lanes_squares)

   !> v = x/norm + e₁, and s = vᵀa/v₁ for the columns of a, s_b for b.
   pure subroutine TAGGED(lsq_lanes_reflect)(length, columns, m, norm, v, a, b, s, s_b) bind(c)
      integer(ik), intent(in), value :: length    !< of v; > 1 if there are columns
      integer(ik), intent(in), value :: columns   !< of a
      integer(ik), intent(in), value :: m         !< from one column of a to the next
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length) !< x; then the reflector
      real(wp), intent(in) :: a(LANES, m, columns), b(LANES, length)
      real(wp), intent(inout) :: s(LANES, columns), s_b(LANES)
      real(wp) :: six(LANES, 6)
      integer(ik) :: c(6), j, k

      v(:, 1) = v(:, 1)/norm + 1
      if (columns == 0) then
         call make_with_product(length, norm, v, b, s_b)
         return
      else if (columns <= 2) then
         call make_with_products3(length, norm, v, a, a(1, 1, columns), b, six)
         s_b = six(:, 3)
      else
         call make_with_products6(length, norm, v, a, a(1, 1, 2), a(1, 1, 3), &
            a(1, 1, min(4_ik, columns)), a(1, 1, min(5_ik, columns)), b, six)
         s_b = six(:, 6)
      end if
      do k = 1, min(columns, 5_ik)
         s(:, k) = six(:, k)
      end do
      do j = 6, columns, 6
         c = [(min(j + k, columns), k = 0, 5)]
         call products6(length, v, a(1, 1, c(1)), a(1, 1, c(2)), a(1, 1, c(3)), a(1, 1, c(4)), &
            a(1, 1, c(5)), a(1, 1, c(6)), six)
         do k = j, min(j + 5, columns)
            s(:, k) = six(:, k - j + 1)
         end do
      end do
   end subroutine TAGGED(lsq_lanes_reflect)

   !> Row 1 of a − v sᵀ and of b − s_b v, and the norms of the rows below it, by qrfac's
   !> downdate.  left is the smallest (norm/reference)² of all columns.
   pure subroutine TAGGED(lsq_lanes_downdate)(columns, m, v, s, a, s_b, b, norms, references, &
      left) bind(c)
      integer(ik), intent(in), value :: columns   !< of a
      integer(ik), intent(in), value :: m         !< from one column of a to the next
      real(wp), intent(in) :: v(LANES), s(LANES, columns), s_b(LANES)
      real(wp), intent(inout) :: a(LANES, m, columns), b(LANES)
      real(wp), intent(inout) :: norms(LANES, columns)
      real(wp), intent(in) :: references(LANES, columns)
      real(wp), intent(inout) :: left(LANES)
      real(wp) :: top, share, norm, part
      integer(ik) :: k, q

      b = b - s_b*v
      left = 1
      do k = 1, columns
         !$omp simd private(top, share, norm, part)
         do q = 1, LANES
            top = a(q, 1, k) - s(q, k)*v(q)
            a(q, 1, k) = top
            share = top/norms(q, k)
            norm = norms(q, k)*sqrt(max(0.0_wp, 1 - share**2))
            norms(q, k) = norm
            part = (norm/references(q, k))**2
            left(q) = merge(left(q), part, part > left(q))   ! keeps a nan
         end do
      end do
   end subroutine TAGGED(lsq_lanes_downdate)

   !> a = a − v sᵀ and b = b − s_b v; total = the sum of squares of a's first column.
   pure subroutine TAGGED(lsq_lanes_update)(length, columns, m, v, s, a, s_b, b, total) bind(c)
      integer(ik), intent(in), value :: length    !< of v, >= 1
      integer(ik), intent(in), value :: columns   !< of a
      integer(ik), intent(in), value :: m         !< from one column of a to the next
      real(wp), intent(in) :: v(LANES, length), s(LANES, columns), s_b(LANES)
      real(wp), intent(inout) :: a(LANES, m, columns), b(LANES, length)
      real(wp), intent(inout) :: total(LANES)
      integer(ik) :: k

      if (columns == 0) then
         call update(length, v, s_b, b)
         return
      end if
      call update_two(length, v, s, a, s_b, b, total)
      do k = 2, columns
         call update(length, v, s(1, k), a(1, 1, k))
      end do
   end subroutine TAGGED(lsq_lanes_update)

   pure subroutine squares6(length, a, b, c, d, e, f, totals)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(in) :: d(LANES, length), e(LANES, length), f(LANES, length)
      real(wp), intent(out) :: totals(LANES, 6)
      real(wp) :: sa, sb, sc, sd, se, sf
      integer(ik) :: i, q

      !$omp simd private(i, sa, sb, sc, sd, se, sf)
      do q = 1, LANES
         sa = 0; sb = 0; sc = 0; sd = 0; se = 0; sf = 0
         i = 1
         do
            sa = sa + a(q, i)*a(q, i)
            sb = sb + b(q, i)*b(q, i)
            sc = sc + c(q, i)*c(q, i)
            sd = sd + d(q, i)*d(q, i)
            se = se + e(q, i)*e(q, i)
            sf = sf + f(q, i)*f(q, i)
            i = i + 1
            if (i > length) exit
         end do
         totals(q, 1) = sa
         totals(q, 2) = sb
         totals(q, 3) = sc
         totals(q, 4) = sd
         totals(q, 5) = se
         totals(q, 6) = sf
      end do
   end subroutine squares6

   pure subroutine products6(length, v, a, b, c, d, e, f, s)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(LANES, length)
      real(wp), intent(in) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(in) :: d(LANES, length), e(LANES, length), f(LANES, length)
      real(wp), intent(out) :: s(LANES, 6)
      real(wp) :: sa, sb, sc, sd, se, sf
      integer(ik) :: i, q

      !$omp simd private(i, sa, sb, sc, sd, se, sf)
      do q = 1, LANES
         sa = 0; sb = 0; sc = 0; sd = 0; se = 0; sf = 0
         i = 1
         do
            sa = sa + v(q, i)*a(q, i)
            sb = sb + v(q, i)*b(q, i)
            sc = sc + v(q, i)*c(q, i)
            sd = sd + v(q, i)*d(q, i)
            se = se + v(q, i)*e(q, i)
            sf = sf + v(q, i)*f(q, i)
            i = i + 1
            if (i > length) exit
         end do
         s(q, 1) = sa/v(q, 1)
         s(q, 2) = sb/v(q, 1)
         s(q, 3) = sc/v(q, 1)
         s(q, 4) = sd/v(q, 1)
         s(q, 5) = se/v(q, 1)
         s(q, 6) = sf/v(q, 1)
      end do
   end subroutine products6

   !> The rest of the reflector after v₁, and its products with six vectors.
   pure subroutine make_with_products6(length, norm, v, a, b, c, d, e, f, s)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(in) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(in) :: d(LANES, length), e(LANES, length), f(LANES, length)
      real(wp), intent(inout) :: s(LANES, 6)
      real(wp) :: vi, sa, sb, sc, sd, se, sf
      integer(ik) :: i, q

      !$omp simd private(i, vi, sa, sb, sc, sd, se, sf)
      do q = 1, LANES
         sa = 0 + v(q, 1)*a(q, 1); sb = 0 + v(q, 1)*b(q, 1); sc = 0 + v(q, 1)*c(q, 1)
         sd = 0 + v(q, 1)*d(q, 1); se = 0 + v(q, 1)*e(q, 1); sf = 0 + v(q, 1)*f(q, 1)
         i = 2
         do
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            sa = sa + vi*a(q, i)
            sb = sb + vi*b(q, i)
            sc = sc + vi*c(q, i)
            sd = sd + vi*d(q, i)
            se = se + vi*e(q, i)
            sf = sf + vi*f(q, i)
            i = i + 1
            if (i > length) exit
         end do
         s(q, 1) = sa/v(q, 1)
         s(q, 2) = sb/v(q, 1)
         s(q, 3) = sc/v(q, 1)
         s(q, 4) = sd/v(q, 1)
         s(q, 5) = se/v(q, 1)
         s(q, 6) = sf/v(q, 1)
      end do
   end subroutine make_with_products6

   pure subroutine make_with_products3(length, norm, v, a, b, c, s)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm(LANES)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(in) :: a(LANES, length), b(LANES, length), c(LANES, length)
      real(wp), intent(inout) :: s(LANES, 6)
      real(wp) :: vi, sa, sb, sc
      integer(ik) :: i, q

      !$omp simd private(i, vi, sa, sb, sc)
      do q = 1, LANES
         sa = 0 + v(q, 1)*a(q, 1); sb = 0 + v(q, 1)*b(q, 1); sc = 0 + v(q, 1)*c(q, 1)
         i = 2
         do
            vi = v(q, i)/norm(q)
            v(q, i) = vi
            sa = sa + vi*a(q, i)
            sb = sb + vi*b(q, i)
            sc = sc + vi*c(q, i)
            i = i + 1
            if (i > length) exit
         end do
         s(q, 1) = sa/v(q, 1)
         s(q, 2) = sb/v(q, 1)
         s(q, 3) = sc/v(q, 1)
      end do
   end subroutine make_with_products3

   pure subroutine make_with_product(length, norm, v, b, s)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm(LANES), b(LANES, length)
      real(wp), intent(inout) :: v(LANES, length)
      real(wp), intent(out) :: s(LANES)
      integer(ik) :: i

      s = 0 + v(:, 1)*b(:, 1)
      do i = 2, length
         v(:, i) = v(:, i)/norm
         s = s + v(:, i)*b(:, i)
      end do
      s = s/v(:, 1)
   end subroutine make_with_product

   pure subroutine update(length, v, s, a)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(LANES, length)
      real(wp), intent(in) :: s(LANES)
      real(wp), intent(inout) :: a(LANES, length)
      integer(ik) :: i, q

      !$omp simd private(i)
      do q = 1, LANES
         i = 1
         do
            a(q, i) = a(q, i) - s(q)*v(q, i)
            i = i + 1
            if (i > length) exit
         end do
      end do
   end subroutine update

   !> Update a and b, and compute the sum of squares of a.
   pure subroutine update_two(length, v, s, a, s_b, b, total)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(LANES, length)
      real(wp), intent(in) :: s(LANES), s_b(LANES)
      real(wp), intent(inout) :: a(LANES, length), b(LANES, length)
      real(wp), intent(out) :: total(LANES)
      real(wp) :: ai, sum
      integer(ik) :: i, q

      !$omp simd private(i, ai, sum)
      do q = 1, LANES
         sum = 0
         i = 1
         do
            ai = a(q, i) - s(q)*v(q, i)
            a(q, i) = ai
            sum = sum + ai*ai
            b(q, i) = b(q, i) - s_b(q)*v(q, i)
            i = i + 1
            if (i > length) exit
         end do
         total(q) = sum
      end do
   end subroutine update_two

end module TAGGED(leastsq_lanes)
