#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Householder panels that fold a block of rows into a triangle.
!>
!> A reflector H = I - tau y y' that clears column j of [triangle; block] changes only
!> row j of the triangle and the block: y = [e_j; v].  PANEL successive reflectors make
!> I - Y T Y' (Schreiber and Van Loan 1989) with Y = [I; V], where the dense columns V take
!> the place of the block's own.  So a panel is applied by two short matrix products,
!> without regard to any triangular shape.
!>
!> Public: factor_panel, apply_panel, apply_panel_to_one, PANEL, TILE, OCTET;
!> turn_rows and move_rows for triangles that are still empty.  Data: one block of
!> rows, in cache.  Compiled once for each instruction set (-DISA=baseline, v3), with
!> contraction to fused multiply-adds, because this path does not promise MINPACK's bits.
module TAGGED(leastsq_panels)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t
   use TAGGED(leastsq_reflectors), only: reflector, make_reflector, SMALLEST_SUM, LARGEST_SUM
   implicit none (type, external)
   private
   public :: factor_panel, apply_panel, apply_panel_to_one
   public :: turn_rows, move_rows

   !> Reflectors applied together.  Four by three inner products are twelve running
   !> sums, the most that sixteen vector registers can hold together with the
   !> operands.  (4 x 4 is 25 % slower with 16 registers, and the same with 32.)
   integer(ik), parameter, public :: PANEL = 4
   integer(ik), parameter, public :: TILE = 3      !< columns that one call changes
   integer(ik), parameter, public :: OCTET = 8     !< rows are padded to a multiple of this

contains

   !> Clear the first `live` of PANEL columns of the block into the triangle, and
   !> compute their V and T.
   !>
   !> One pass over the block per reflector scales reflector j, applies it to the
   !> columns after it, and forms the inner products that reflector j+1 and T need.
   !> These are products of unscaled columns; where they leave the range in which they
   !> keep their digits, `careful_step` does the same in separate, scaled passes.
   pure subroutine factor_panel(octets, live, block, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: octets                    !< rows of the block / OCTET
      integer(ik), intent(in) :: live                      !< columns that are not padding, 1 to PANEL
      integer(ik), intent(in) :: ldb                       !< leading dimension of block
      real(wp), intent(inout) :: block(ldb, PANEL)         !< columns to clear; V on return
      integer(ik), intent(in) :: ldt                       !< leading dimension of triangle
      !> triangle(k, j): row j, column k, both counted from the panel's first.
      real(wp), intent(inout) :: triangle(ldt, PANEL)
      real(wp), intent(out) :: t(PANEL, PANEL)             !< upper triangle of T
      real(wp) :: d(PANEL)          ! column j times columns j to PANEL
      real(wp) :: e(PANEL)          ! reflectors 1 to j-1 times column j
      real(wp) :: w(PANEL)          ! multiples of column j to subtract from the others
      real(wp) :: tau, inverse
      integer(ik) :: j, k
      logical :: in_range

      t = 0
      e = 0
      call first_products(octets, block(1, 1), block(1, 2), block(1, 3), block(1, 4), d)
      do j = 1, live
         in_range = d(j) + triangle(j, j)**2 <= LARGEST_SUM
         do k = j, live
            in_range = in_range .and. abs(d(k)) >= SMALLEST_SUM .and. abs(d(k)) <= LARGEST_SUM
         end do
         if (in_range) then
            call reflector(d(j), triangle(j, j), tau, inverse)
            e = e*inverse
            w = 0
            do k = j + 1, live
               w(k) = tau*(triangle(k, j) + inverse*d(k))
               triangle(k, j) = triangle(k, j) - w(k)
               w(k) = w(k)*inverse
            end do
            call extend_t(j, tau, e, t)
            select case (j)
            case (1)
               call first_step(octets, inverse, w, block(1, 1), block(1, 2), block(1, 3), block(1, 4), d, e)
            case (2)
               call second_step(octets, inverse, w, block(1, 1), block(1, 2), block(1, 3), block(1, 4), d, e)
            case (3)
               call third_step(octets, inverse, w, block(1, 1), block(1, 2), block(1, 3), block(1, 4), d, e)
            case default
               block(1:OCTET*octets, 4) = block(1:OCTET*octets, 4)*inverse
            end select
         else
            call careful_step(octets, j, live, block, ldb, triangle, ldt, d, e, t)
         end if
      end do
   end subroutine factor_panel

   !> One more column of T: T(1:j-1,j) = -tau T(1:j-1,1:j-1) (V'v_j).
   pure subroutine extend_t(j, tau, e, t)
      integer(ik), intent(in) :: j
      real(wp), intent(in) :: tau, e(PANEL)                !< e(1:j-1) = V'v_j
      real(wp), intent(inout) :: t(PANEL, PANEL)
      integer(ik) :: i

      do i = 1, j - 1
         t(i, j) = -tau*sum(t(i, i:j - 1)*e(i:j - 1))
      end do
      t(j, j) = tau
   end subroutine extend_t

   !> Step j in separate passes, for columns that are zero, not finite, or so large or
   !> small that their inner products overflow or underflow.
   pure subroutine careful_step(octets, j, live, block, ldb, triangle, ldt, d, e, t)
      integer(ik), intent(in) :: octets, j, live, ldb, ldt
      real(wp), intent(inout) :: block(ldb, PANEL), triangle(ldt, PANEL), t(PANEL, PANEL)
      real(wp), intent(inout) :: d(PANEL), e(PANEL)        !< on return as after the other steps
      real(wp) :: tau, w
      integer(ik) :: k
      logical :: no_reflection

      call make_reflector(OCTET*octets, block(1, j), d(j), triangle(j, j), tau)
      no_reflection = abs(tau) <= 0
      do k = 1, j - 1
         e(k) = 0
         if (.not. no_reflection) e(k) = inner_product(octets, block(1, k), block(1, j))
      end do
      call extend_t(j, tau, e, t)
      if (j == live) return
      do k = j + 1, live
         if (no_reflection) exit
         w = tau*(triangle(k, j) + inner_product(octets, block(1, j), block(1, k)))
         triangle(k, j) = triangle(k, j) - w
         block(1:OCTET*octets, k) = block(1:OCTET*octets, k) - w*block(1:OCTET*octets, j)
      end do
      do k = j + 1, live
         d(k) = inner_product(octets, block(1, j + 1), block(1, k))
      end do
      do k = 1, j
         e(k) = inner_product(octets, block(1, k), block(1, j + 1))
      end do
   end subroutine careful_step

   pure function inner_product(octets, a, b) result(total)
      integer(ik), intent(in) :: octets
      real(wp), intent(in) :: a(OCTET*octets), b(OCTET*octets)
      real(wp) :: total
      integer(ik) :: i

      total = 0
      !$omp simd reduction(+: total)
      do i = 1, OCTET*octets
         total = total + a(i)*b(i)
      end do
   end function inner_product

   !> Column 1 times columns 1 to 4.
   pure subroutine first_products(octets, a1, a2, a3, a4, d)
      integer(ik), intent(in) :: octets
      real(wp), intent(in), dimension(OCTET*octets) :: a1, a2, a3, a4
      real(wp), intent(out) :: d(PANEL)
      real(wp) :: d1, d2, d3, d4
      integer(ik) :: i

      d1 = 0; d2 = 0; d3 = 0; d4 = 0
      !$omp simd reduction(+: d1, d2, d3, d4)
      do i = 1, OCTET*octets
         d1 = d1 + a1(i)*a1(i)
         d2 = d2 + a1(i)*a2(i)
         d3 = d3 + a1(i)*a3(i)
         d4 = d4 + a1(i)*a4(i)
      end do
      d = [d1, d2, d3, d4]
   end subroutine first_products

   pure subroutine first_step(octets, inverse, w, a1, a2, a3, a4, d, e)
      integer(ik), intent(in) :: octets
      real(wp), intent(in) :: inverse, w(PANEL)
      real(wp), intent(inout), dimension(OCTET*octets) :: a1, a2, a3, a4
      real(wp), intent(inout) :: d(PANEL), e(PANEL)
      real(wp) :: d2, d3, d4, e1, v, x, y, z, w2, w3, w4
      integer(ik) :: i

      w2 = w(2); w3 = w(3); w4 = w(4)
      d2 = 0; d3 = 0; d4 = 0; e1 = 0
      !$omp simd reduction(+: d2, d3, d4, e1) private(v, x, y, z)
      do i = 1, OCTET*octets
         x = a2(i) - w2*a1(i)
         y = a3(i) - w3*a1(i)
         z = a4(i) - w4*a1(i)
         v = inverse*a1(i)
         d2 = d2 + x*x
         d3 = d3 + x*y
         d4 = d4 + x*z
         e1 = e1 + x*v
         a1(i) = v; a2(i) = x; a3(i) = y; a4(i) = z
      end do
      d(2) = d2; d(3) = d3; d(4) = d4
      e(1) = e1
   end subroutine first_step

   pure subroutine second_step(octets, inverse, w, v1, a2, a3, a4, d, e)
      integer(ik), intent(in) :: octets
      real(wp), intent(in) :: inverse, w(PANEL)
      real(wp), intent(in) :: v1(OCTET*octets)
      real(wp), intent(inout), dimension(OCTET*octets) :: a2, a3, a4
      real(wp), intent(inout) :: d(PANEL), e(PANEL)
      real(wp) :: d3, d4, e1, e2, v, y, z, w3, w4
      integer(ik) :: i

      w3 = w(3); w4 = w(4)
      d3 = 0; d4 = 0; e1 = 0; e2 = 0
      !$omp simd reduction(+: d3, d4, e1, e2) private(v, y, z)
      do i = 1, OCTET*octets
         y = a3(i) - w3*a2(i)
         z = a4(i) - w4*a2(i)
         v = inverse*a2(i)
         d3 = d3 + y*y
         d4 = d4 + y*z
         e1 = e1 + y*v1(i)
         e2 = e2 + y*v
         a2(i) = v; a3(i) = y; a4(i) = z
      end do
      d(3) = d3; d(4) = d4
      e(1) = e1; e(2) = e2
   end subroutine second_step

   pure subroutine third_step(octets, inverse, w, v1, v2, a3, a4, d, e)
      integer(ik), intent(in) :: octets
      real(wp), intent(in) :: inverse, w(PANEL)
      real(wp), intent(in), dimension(OCTET*octets) :: v1, v2
      real(wp), intent(inout), dimension(OCTET*octets) :: a3, a4
      real(wp), intent(inout) :: d(PANEL), e(PANEL)
      real(wp) :: d4, e1, e2, e3, v, z, w4
      integer(ik) :: i

      w4 = w(4)
      d4 = 0; e1 = 0; e2 = 0; e3 = 0
      !$omp simd reduction(+: d4, e1, e2, e3) private(v, z)
      do i = 1, OCTET*octets
         z = a4(i) - w4*a3(i)
         v = inverse*a3(i)
         d4 = d4 + z*z
         e1 = e1 + z*v1(i)
         e2 = e2 + z*v2(i)
         e3 = e3 + z*v
         a3(i) = v; a4(i) = z
      end do
      d(4) = d4
      e(1) = e1; e(2) = e2; e(3) = e3
   end subroutine third_step

   !> The orthogonal matrix that turns a few rows into a trapezoid.
   pure subroutine turn_rows(rows, live, block, ldb, turn)
      integer(ik), intent(in) :: rows, live, ldb           !< rows <= live <= PANEL
      real(wp), intent(in) :: block(ldb, live)
      real(wp), intent(out) :: turn(PANEL, PANEL)          !< in its leading rows x rows part
      real(wp) :: a(PANEL, 2*PANEL), v(PANEL), tau, w
      integer(ik) :: i, j

      a = 0
      a(1:rows, 1:live) = block(1:rows, :)
      do i = 1, PANEL
         a(i, PANEL + i) = 1
      end do
      do j = 1, rows - 1
         v(j + 1:rows) = a(j + 1:rows, j)
         call make_reflector(rows - j, v(j + 1), sum(v(j + 1:rows)**2), a(j, j), tau)
         do i = j + 1, 2*PANEL
            w = tau*(a(j, i) + sum(v(j + 1:rows)*a(j + 1:rows, i)))
            a(j, i) = a(j, i) - w
            a(j + 1:rows, i) = a(j + 1:rows, i) - w*v(j + 1:rows)
         end do
      end do
      turn = a(:, PANEL + 1:)
   end subroutine turn_rows

   !> Turn rows of the block and move them to rows of the triangle that are zero.
   pure subroutine move_rows(rows, columns, turn, block, ldb, triangle, ldt)
      integer(ik), intent(in) :: rows, columns, ldb, ldt
      real(wp), intent(in) :: turn(PANEL, PANEL)
      real(wp), intent(inout) :: block(ldb, columns)       !< the moved rows are zero on return
      real(wp), intent(inout) :: triangle(ldt, PANEL)      !< (k, j): row j, column k
      real(wp) :: x(PANEL)
      integer(ik) :: j, k

      do k = 1, columns
         x = 0
         x(1:rows) = block(1:rows, k)
         block(1:rows, k) = 0
         do j = 1, rows
            triangle(k, j) = sum(turn(j, :)*x)
         end do
      end do
   end subroutine move_rows

   !> Apply a panel to TILE columns of the block and to its rows of the triangle.
   !> Most of the time is spent in this loop nest.
   pure subroutine apply_panel(octets, v, c, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: octets                    !< rows of the block / OCTET
      integer(ik), intent(in) :: ldb                       !< leading dimension of v and c
      real(wp), intent(in) :: v(ldb, PANEL)                !< the panel's reflectors
      real(wp), intent(inout) :: c(ldb, TILE)              !< columns to change
      integer(ik), intent(in) :: ldt                       !< leading dimension of triangle
      !> triangle(k, j): row j of the panel, column k of the tile.
      real(wp), intent(inout) :: triangle(ldt, PANEL)
      real(wp), intent(in) :: t(PANEL, PANEL)              !< upper triangle of T
      real(wp) :: w11, w21, w31, w41, w12, w22, w32, w42, w13, w23, w33, w43
      integer(ik) :: i

      w11 = 0; w21 = 0; w31 = 0; w41 = 0
      w12 = 0; w22 = 0; w32 = 0; w42 = 0
      w13 = 0; w23 = 0; w33 = 0; w43 = 0
      !$omp simd reduction(+: w11, w21, w31, w41, w12, w22, w32, w42, w13, w23, w33, w43)
      do i = 1, OCTET*octets
         w11 = w11 + v(i, 1)*c(i, 1)
         w21 = w21 + v(i, 2)*c(i, 1)
         w31 = w31 + v(i, 3)*c(i, 1)
         w41 = w41 + v(i, 4)*c(i, 1)
         w12 = w12 + v(i, 1)*c(i, 2)
         w22 = w22 + v(i, 2)*c(i, 2)
         w32 = w32 + v(i, 3)*c(i, 2)
         w42 = w42 + v(i, 4)*c(i, 2)
         w13 = w13 + v(i, 1)*c(i, 3)
         w23 = w23 + v(i, 2)*c(i, 3)
         w33 = w33 + v(i, 3)*c(i, 3)
         w43 = w43 + v(i, 4)*c(i, 3)
      end do
      call settle(triangle(1, 1), triangle(1, 2), triangle(1, 3), triangle(1, 4), t, w11, w21, w31, w41)
      call settle(triangle(2, 1), triangle(2, 2), triangle(2, 3), triangle(2, 4), t, w12, w22, w32, w42)
      call settle(triangle(3, 1), triangle(3, 2), triangle(3, 3), triangle(3, 4), t, w13, w23, w33, w43)
      !$omp simd
      do i = 1, OCTET*octets
         c(i, 1) = c(i, 1) - v(i, 1)*w11 - v(i, 2)*w21 - v(i, 3)*w31 - v(i, 4)*w41
         c(i, 2) = c(i, 2) - v(i, 1)*w12 - v(i, 2)*w22 - v(i, 3)*w32 - v(i, 4)*w42
         c(i, 3) = c(i, 3) - v(i, 1)*w13 - v(i, 2)*w23 - v(i, 3)*w33 - v(i, 4)*w43
      end do
   end subroutine apply_panel

   !> apply_panel for a single column, the remainder of a tiling.
   pure subroutine apply_panel_to_one(octets, v, c, ldb, triangle, ldt, t)
      integer(ik), intent(in) :: octets, ldb, ldt
      real(wp), intent(in) :: v(ldb, PANEL), t(PANEL, PANEL)
      real(wp), intent(inout) :: c(ldb), triangle(ldt, PANEL)
      real(wp) :: w1, w2, w3, w4
      integer(ik) :: i

      w1 = 0; w2 = 0; w3 = 0; w4 = 0
      !$omp simd reduction(+: w1, w2, w3, w4)
      do i = 1, OCTET*octets
         w1 = w1 + v(i, 1)*c(i)
         w2 = w2 + v(i, 2)*c(i)
         w3 = w3 + v(i, 3)*c(i)
         w4 = w4 + v(i, 4)*c(i)
      end do
      call settle(triangle(1, 1), triangle(1, 2), triangle(1, 3), triangle(1, 4), t, w1, w2, w3, w4)
      !$omp simd
      do i = 1, OCTET*octets
         c(i) = c(i) - v(i, 1)*w1 - v(i, 2)*w2 - v(i, 3)*w3 - v(i, 4)*w4
      end do
   end subroutine apply_panel_to_one

   !> One column of a panel's rows of the triangle: w = T'(row + V'c), row = row - w.
   pure subroutine settle(row1, row2, row3, row4, t, w1, w2, w3, w4)
      real(wp), intent(inout) :: row1, row2, row3, row4
      real(wp), intent(in) :: t(PANEL, PANEL)
      real(wp), intent(inout) :: w1, w2, w3, w4     !< V'c; on return the multiples of V

      w1 = w1 + row1
      w2 = w2 + row2
      w3 = w3 + row3
      w4 = w4 + row4
      w4 = (t(1, 4)*w1 + t(2, 4)*w2) + (t(3, 4)*w3 + t(4, 4)*w4)
      w3 = (t(1, 3)*w1 + t(2, 3)*w2) + t(3, 3)*w3
      w2 = t(1, 2)*w1 + t(2, 2)*w2
      w1 = t(1, 1)*w1
      row1 = row1 - w1
      row2 = row2 - w2
      row3 = row3 - w3
      row4 = row4 - w4
   end subroutine settle

end module TAGGED(leastsq_panels)
