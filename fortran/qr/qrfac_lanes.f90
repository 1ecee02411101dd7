!> Column-pivoted Householder QR of several small matrices at once.
!>
!> qrfac.f90 for LANES matrices of one shape, with the same operations on each number, so
!> that each matrix gets the same bits.  The additions of one sum wait for each other, so the
!> sums of eight matrices run at the same time.  The loops over rows are in lanes.F90, compiled
!> for each instruction set; decisions about each matrix are here.
!>
!> A matrix that needs another course (a column of zeros, a norm that must be recomputed, an
!> element that is not finite) is left to qrfac.
!>
!> Public: qrfac_lanes, lanes_size, lanes_kernels_t, LANES.  The data is m-sized.
module leastsq_qrfac_lanes
   use, intrinsic :: iso_c_binding, only: c_double, c_int64_t, c_funptr, c_f_procpointer
   use leastsq_kinds, only: wp, ik, EPS
   use leastsq_enorm, only: settled_norm, surely_plain
   use leastsq_qrfac, only: NORM_CANCELLATION
   implicit none (type, external)
   private
   public :: qrfac_lanes, lanes_size, lanes_kernels_t, LANES

   integer, parameter :: LANES = 8

   !> The loops of one instruction set: lsq_lanes_kernels of core.h.
   type, bind(c) :: lanes_kernels_t
      type(c_funptr) :: squares, reflect, downdate, update
   end type lanes_kernels_t

   abstract interface
      pure subroutine squares_i(m, n, a, totals) bind(c)
         import :: c_double, c_int64_t, LANES
         implicit none (type, external)
         integer(c_int64_t), intent(in), value :: m, n
         real(c_double), intent(in) :: a(LANES, m, n)
         real(c_double), intent(inout) :: totals(LANES, n)
      end subroutine squares_i

      pure subroutine reflect_i(length, columns, m, norm, v, a, b, s, s_b) bind(c)
         import :: c_double, c_int64_t, LANES
         implicit none (type, external)
         integer(c_int64_t), intent(in), value :: length, columns, m
         real(c_double), intent(in) :: norm(LANES)
         real(c_double), intent(inout) :: v(LANES, length)
         real(c_double), intent(in) :: a(LANES, m, columns), b(LANES, length)
         real(c_double), intent(inout) :: s(LANES, columns), s_b(LANES)
      end subroutine reflect_i

      pure subroutine downdate_i(columns, m, v, s, a, s_b, b, norms, references, left) bind(c)
         import :: c_double, c_int64_t, LANES
         implicit none (type, external)
         integer(c_int64_t), intent(in), value :: columns, m
         real(c_double), intent(in) :: v(LANES), s(LANES, columns), s_b(LANES)
         real(c_double), intent(inout) :: a(LANES, m, columns), b(LANES)
         real(c_double), intent(inout) :: norms(LANES, columns)
         real(c_double), intent(in) :: references(LANES, columns)
         real(c_double), intent(inout) :: left(LANES)
      end subroutine downdate_i

      pure subroutine update_i(length, columns, m, v, s, a, s_b, b, total) bind(c)
         import :: c_double, c_int64_t, LANES
         implicit none (type, external)
         integer(c_int64_t), intent(in), value :: length, columns, m
         real(c_double), intent(in) :: v(LANES, length), s(LANES, columns), s_b(LANES)
         real(c_double), intent(inout) :: a(LANES, m, columns), b(LANES, length)
         real(c_double), intent(inout) :: total(LANES)
      end subroutine update_i
   end interface

contains

   !> The number of doubles of scratch that qrfac_lanes needs.
   pure function lanes_size(m, n) result(size)
      integer(ik), intent(in) :: m, n
      integer(ik) :: size

      size = m + 2*LANES*n
   end function lanes_size

   !> Factor each a(q, :, :) with b(q, :) as qrfac does, with pivoting.  Columns may come in any
   !> order; the order of the pivots is the fastest.  Only the strict upper triangle of a, that
   !> of R, is valid on return; where plain(q) is 0, nothing is.
   subroutine qrfac_lanes(kernels, m, n, a, b, ipvt, rdiag, acnorm, plain, work, places)
      type(lanes_kernels_t), intent(in) :: kernels
      integer(ik), intent(in) :: m                !< rows, >= n
      integer(ik), intent(in) :: n                !< columns, > 0
      real(wp), intent(inout) :: a(LANES, m, n)   !< the matrices; their R on return
      real(wp), intent(inout) :: b(LANES, m)      !< right-hand sides; their Q'b on return
      integer(ik), intent(inout) :: ipvt(LANES, n)!< the columns' numbers, which qrfac counts from 1
      real(wp), intent(inout) :: rdiag(LANES, n)  !< R's diagonals
      real(wp), intent(inout) :: acnorm(LANES, n) !< the norms of the columns in the order of entry
      integer(ik), intent(inout) :: plain(LANES)
      real(wp), intent(inout) :: work(lanes_size(m, n))   !< scratch
      integer(ik), intent(inout) :: places(n)     !< scratch
      procedure(squares_i), pointer :: squares
      procedure(reflect_i), pointer :: reflect
      procedure(downdate_i), pointer :: downdate
      procedure(update_i), pointer :: update

      call c_f_procpointer(kernels%squares, squares)
      call c_f_procpointer(kernels%reflect, reflect)
      call c_f_procpointer(kernels%downdate, downdate)
      call c_f_procpointer(kernels%update, update)
      call factor(squares, reflect, downdate, update, m, n, a, b, ipvt, rdiag, acnorm, plain, &
         work(2*LANES*n + 1), work, work(LANES*n + 1), places)
   end subroutine qrfac_lanes

   subroutine factor(squares, reflect, downdate, update, m, n, a, b, ipvt, rdiag, acnorm, plain, &
      column, references, s, places)
      procedure(squares_i) :: squares
      procedure(reflect_i) :: reflect
      procedure(downdate_i) :: downdate
      procedure(update_i) :: update
      integer(ik), intent(in) :: m, n
      real(wp), intent(inout) :: a(LANES, m, n), b(LANES, m), rdiag(LANES, n), acnorm(LANES, n)
      integer(ik), intent(inout) :: ipvt(LANES, n), plain(LANES), places(n)
      real(wp), intent(inout) :: column(m)                !< scratch
      real(wp), intent(inout) :: references(LANES, n)     !< rdiag when last computed
      real(wp), intent(inout) :: s(LANES, n)              !< a reflector's products
      real(wp) :: norm(LANES), s_b(LANES), left(LANES)
      integer(ik) :: j, k, next(LANES), rest
      logical :: odd(LANES)

      ! Preconditions
      call squares(m, n, a, acnorm)
      odd = .false.
      do k = 1, n
         call settle(m, m, a(1, 1, k), column, acnorm(1, k))
         rdiag(:, k) = acnorm(:, k)
         references(:, k) = acnorm(:, k)
         odd = odd .or. .not. (acnorm(:, k) > 0 .and. acnorm(:, k) <= huge(1.0_wp))
      end do

      ! Calculation
      call choose(1_ik, n, rdiag, ipvt, places, next)
      call exchange(1_ik, next, m, n, a, ipvt, rdiag, references)
      do k = 1, LANES
         norm(k) = acnorm(k, next(k))
      end do
      do j = 1, n
         rest = m - j
         odd = odd .or. .not. norm > 0
         norm = merge(-norm, norm, a(:, j, j) < 0)
         rdiag(:, j) = -norm
         call reflect(rest + 1, n - j, m, norm, a(1, j, j), a(1, j, min(j + 1, n)), b(1, j), s, s_b)

         ! Row j, on which the choice of the next pivot depends
         k = min(j + 1, n)
         call downdate(n - j, m, a(1, j, j), s, a(1, j, k), s_b, b(1, j), rdiag(1, k), &
            references(1, k), left)
         odd = odd .or. .not. NORM_CANCELLATION*left > EPS
         if (j < n) then
            call choose(j + 1, n, rdiag, ipvt, places, next)
            call exchange(j + 1, next, m, n, a, ipvt, rdiag, references)
            do k = 1, LANES
               call swap(s(k, 1), s(k, next(k) - j))
            end do
         end if

         ! The other rows, with the norm of the next pivot column
         if (rest == 0) cycle
         call update(rest, n - j, m, a(1, j + 1, j), s, a(1, j + 1, min(j + 1, n)), s_b, &
            b(1, j + 1), norm)
         if (j < n) call settle(rest, m, a(1, j + 1, j + 1), column, norm)
      end do
      plain = merge(0_ik, 1_ik, odd)
   end subroutine factor

   !> The column of each lane that becomes number j: the longest.
   pure subroutine choose(j, n, norms, ipvt, places, next)
      integer(ik), intent(in) :: j, n
      real(wp), intent(in) :: norms(LANES, n)
      integer(ik), intent(in) :: ipvt(LANES, n)
      integer(ik), intent(inout) :: places(n)
      integer(ik), intent(out) :: next(LANES)
      real(wp) :: longest
      integer(ik) :: k, q
      logical :: tie

      do q = 1, LANES
         next(q) = j
         longest = norms(q, j)
         tie = .false.
         do k = j + 1, n
            if (norms(q, k) < longest) cycle
            tie = norms(q, k) == longest
            if (.not. tie) next(q) = k
            longest = norms(q, k)
         end do
         if (tie) call break_tie(q, j, n, norms, longest, ipvt, places, next(q))
      end do
   end subroutine choose

   !> Of several columns of the same length qrfac takes the first one.  qrfac gets the columns in
   !> the order of their numbers, so which is the first depends on all earlier exchanges: they are
   !> repeated here.
   pure subroutine break_tie(q, j, n, norms, longest, ipvt, places, next)
      integer(ik), intent(in) :: q, j, n
      real(wp), intent(in) :: norms(LANES, n), longest
      integer(ik), intent(in) :: ipvt(LANES, n)
      integer(ik), intent(inout) :: places(n)     !< the places of the columns with these numbers
      integer(ik), intent(inout) :: next
      integer(ik) :: k, first

      do k = 1, n
         places(k) = k
      end do
      do k = 1, j - 1
         first = places(ipvt(q, k))
         where (places == k) places = first
         places(ipvt(q, k)) = k
      end do
      first = n + 1
      do k = j, n
         if (norms(q, k) < longest .or. places(ipvt(q, k)) > first) cycle
         next = k
         first = places(ipvt(q, k))
      end do
   end subroutine break_tie

   !> Exchange columns j and `next` of each lane; the norms of j are no longer needed.
   pure subroutine exchange(j, next, m, n, a, ipvt, norms, references)
      integer(ik), intent(in) :: j, m, n, next(LANES)
      real(wp), intent(inout) :: a(LANES, m, n), norms(LANES, n), references(LANES, n)
      integer(ik), intent(inout) :: ipvt(LANES, n)
      integer(ik) :: i, k, q, kept

      do q = 1, LANES
         k = next(q)
         if (k == j) cycle
         do i = 1, m
            call swap(a(q, i, j), a(q, i, k))
         end do
         kept = ipvt(q, j)
         ipvt(q, j) = ipvt(q, k)
         ipvt(q, k) = kept
         norms(q, k) = norms(q, j)
         references(q, k) = references(q, j)
      end do
   end subroutine exchange

   elemental subroutine swap(a, b)
      real(wp), intent(inout) :: a, b
      real(wp) :: kept

      kept = a
      a = b
      b = kept
   end subroutine swap

   !> The norm from each lane's sum of squares, computed as in settled_norm.
   pure subroutine settle(length, m, x, column, norms)
      integer(ik), intent(in) :: length, m
      real(wp), intent(in) :: x(LANES, length)
      real(wp), intent(inout) :: column(m)
      real(wp), intent(inout) :: norms(LANES)
      integer(ik) :: q

      if (surely_plain(LANES, length, x, norms)) then
         norms = sqrt(norms)
         return
      end if
      do q = 1, LANES
         column(:length) = x(q, :)
         norms(q) = settled_norm(length, column, norms(q))
      end do
   end subroutine settle

end module leastsq_qrfac_lanes
