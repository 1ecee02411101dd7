!> Column-pivoted Householder QR, operation for operation MINPACK's.
!>
!> A P = Q R (Businger and Golub 1965; Moré, LNM 630, 1978, §4).  Every sum runs
!> in MINPACK's order, so the results have MINPACK's bits.  What is ours is only
!> what runs at the same time: the inner products of one reflector with up to
!> four columns are independent chains of additions, and a right-hand side b
!> rides along as one more column, which makes it Q'b.
!>
!> Public: qrfac.  Its data is m-sized.
module leastsq_qrfac
   use leastsq_kinds, only: wp, ik, EPS
   use leastsq_enorm, only: enorm, column_norms
   implicit none (type, external)
   private
   public :: qrfac

   !> A downdated column norm is recomputed when 0.05*(norm/reference)² falls
   !> to the rounding error: by then cancellation has taken its digits.
   real(wp), parameter :: NORM_CANCELLATION = 0.05_wp

contains

   !> Factor a.  On return the strict upper triangle of a holds that of R, the
   !> rest the Householder vectors (diagonal included); rdiag is R's diagonal.
   !>
   !> A matrix with a column norm that is not finite is left untouched, with
   !> ipvt the identity, so that the caller can say where it is at fault.
   pure subroutine qrfac(m, n, a, lda, pivot, ipvt, rdiag, acnorm, wa, b)
      integer(ik), intent(in) :: m                !< rows, >= 0
      integer(ik), intent(in) :: n                !< columns, >= 0
      integer(ik), intent(in) :: lda              !< leading dimension, >= m
      real(wp), intent(inout) :: a(lda, n)        !< the matrix; then its factors
      logical, intent(in) :: pivot                !< exchange columns?
      integer(ik), intent(out) :: ipvt(n)         !< column ipvt(j) of A became the j-th
      real(wp), intent(out) :: rdiag(n)           !< diagonal of R
      real(wp), intent(out) :: acnorm(n)          !< norms of A's columns
      real(wp), intent(out) :: wa(n)              !< scratch
      real(wp), intent(inout), optional :: b(m)   !< right-hand side; then Q'b
      real(wp) :: norm
      integer(ik) :: j, k, chosen, length

      ! Preconditions
      call column_norms(m, n, a, lda, acnorm)
      do j = 1, n
         ipvt(j) = j
         rdiag(j) = acnorm(j)
         wa(j) = rdiag(j)
      end do
      if (.not. all(acnorm <= huge(1.0_wp))) return

      ! Calculation
      do j = 1, min(m, n)
         length = m - j + 1
         if (pivot) then
            chosen = j
            do k = j + 1, n
               if (rdiag(k) > rdiag(chosen)) chosen = k
            end do
            if (chosen /= j) then
               call exchange(m, a(1, j), a(1, chosen))
               k = ipvt(j); ipvt(j) = ipvt(chosen); ipvt(chosen) = k
               rdiag(chosen) = rdiag(j)
               wa(chosen) = wa(j)
            end if
         end if

         if (j == 1) then
            norm = acnorm(ipvt(1))               ! untouched so far: the same sum
         else
            norm = enorm(length, a(j, j))
         end if
         if (norm == 0) then
            rdiag(j) = -norm
            cycle
         end if
         if (a(j, j) < 0) norm = -norm
         call make_reflector(length, norm, a(j, j))
         call reflect_columns(j, m, n, a, lda, b)
         if (pivot) then
            do k = j + 1, n
               if (rdiag(k) /= 0) call downdate(length - 1, a(j, k), a(min(j + 1, m), k), rdiag(k), wa(k))
            end do
         end if
         rdiag(j) = -norm
      end do
   end subroutine qrfac

   pure subroutine exchange(m, x, y)
      integer(ik), intent(in) :: m
      real(wp), intent(inout) :: x(m), y(m)
      real(wp) :: kept
      integer(ik) :: i

      do i = 1, m
         kept = x(i)
         x(i) = y(i)
         y(i) = kept
      end do
   end subroutine exchange

   !> v = x/‖x‖ + e₁, with the sign that avoids cancellation.
   pure subroutine make_reflector(length, norm, v)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: norm
      real(wp), intent(inout) :: v(length)
      integer(ik) :: i

      do i = 1, length
         v(i) = v(i)/norm
      end do
      v(1) = v(1) + 1
   end subroutine make_reflector

   !> Apply reflector j to the columns right of it, and to b.
   pure subroutine reflect_columns(j, m, n, a, lda, b)
      integer(ik), intent(in) :: j, m, n, lda
      real(wp), intent(inout) :: a(lda, n)
      real(wp), intent(inout), optional :: b(m)
      integer(ik) :: k, length, left
      logical :: with_b

      length = m - j + 1
      with_b = present(b)
      k = j + 1
      do
         left = n - k + 1
         if (left >= 4) then
            call reflect4(length, a(j, j), a(j, k), a(j, k + 1), a(j, k + 2), a(j, k + 3))
            k = k + 4
            cycle
         end if
         if (.not. with_b) exit
         ! b is the last of the last group
         select case (left)
         case (3); call reflect4(length, a(j, j), a(j, k), a(j, k + 1), a(j, k + 2), b(j))
         case (2); call reflect3(length, a(j, j), a(j, k), a(j, k + 1), b(j))
         case (1); call reflect2(length, a(j, j), a(j, k), b(j))
         case default; call reflect1(length, a(j, j), b(j))
         end select
         return
      end do
      select case (left)
      case (3); call reflect3(length, a(j, j), a(j, k), a(j, k + 1), a(j, k + 2))
      case (2); call reflect2(length, a(j, j), a(j, k), a(j, k + 1))
      case (1); call reflect1(length, a(j, j), a(j, k))
      end select
   end subroutine reflect_columns

   !> Norm of a column's rest after its top element has left it.
   pure subroutine downdate(length, top, rest, norm, reference)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: top
      real(wp), intent(in) :: rest(length)
      real(wp), intent(inout) :: norm, reference
      real(wp) :: share

      share = top/norm
      norm = norm*sqrt(max(0.0_wp, 1 - share**2))
      if (NORM_CANCELLATION*(norm/reference)**2 <= EPS) then
         norm = enorm(length, rest)
         reference = norm
      end if
   end subroutine downdate

   pure subroutine reflect1(length, v, a)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length)
      real(wp), intent(inout) :: a(length)
      real(wp) :: sa
      integer(ik) :: i

      sa = 0
      do i = 1, length
         sa = sa + v(i)*a(i)
      end do
      sa = sa/v(1)
      do i = 1, length
         a(i) = a(i) - sa*v(i)
      end do
   end subroutine reflect1

   pure subroutine reflect2(length, v, a, b)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length)
      real(wp), intent(inout) :: a(length), b(length)
      real(wp) :: sa, sb
      integer(ik) :: i

      sa = 0; sb = 0
      do i = 1, length
         sa = sa + v(i)*a(i)
         sb = sb + v(i)*b(i)
      end do
      sa = sa/v(1); sb = sb/v(1)
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
      end do
   end subroutine reflect2

   pure subroutine reflect3(length, v, a, b, c)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length)
      real(wp), intent(inout) :: a(length), b(length), c(length)
      real(wp) :: sa, sb, sc
      integer(ik) :: i

      sa = 0; sb = 0; sc = 0
      do i = 1, length
         sa = sa + v(i)*a(i)
         sb = sb + v(i)*b(i)
         sc = sc + v(i)*c(i)
      end do
      sa = sa/v(1); sb = sb/v(1); sc = sc/v(1)
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
         c(i) = c(i) - sc*v(i)
      end do
   end subroutine reflect3

   pure subroutine reflect4(length, v, a, b, c, d)
      integer(ik), intent(in) :: length
      real(wp), intent(in) :: v(length)
      real(wp), intent(inout) :: a(length), b(length), c(length), d(length)
      real(wp) :: sa, sb, sc, sd
      integer(ik) :: i

      sa = 0; sb = 0; sc = 0; sd = 0
      do i = 1, length
         sa = sa + v(i)*a(i)
         sb = sb + v(i)*b(i)
         sc = sc + v(i)*c(i)
         sd = sd + v(i)*d(i)
      end do
      sa = sa/v(1); sb = sb/v(1); sc = sc/v(1); sd = sd/v(1)
      do i = 1, length
         a(i) = a(i) - sa*v(i)
         b(i) = b(i) - sb*v(i)
         c(i) = c(i) - sc*v(i)
         d(i) = d(i) - sd*v(i)
      end do
   end subroutine reflect4

end module leastsq_qrfac
