#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> From the accumulator's triangle to the model that Levenberg-Marquardt needs.
!>
!> finish: the column-pivoted QR of the triangle (Businger and Golub 1965; the largest
!> norm first, of equal ones the first) gives R, ipvt, Q'f and the column
!> norms of J.  qrsolv: R stacked on D is one more block of rows (Moré, LNM 630,
!> 1978, §4), folded in by the accumulator's kernels instead of Givens rotations.
!>
!> Public for C: lsq_tsqr_fold, lsq_tsqr_triangle, lsq_tsqr_finish,
!> lsq_tsqr_qrsolv, each followed by _<ISA>.  All data is n-sized;
!> the caller owns the workspaces.
module TAGGED(leastsq_triangle)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_ptr, c_f_pointer, c_loc
   use TAGGED(leastsq_tsqr), only: layout_t, layout_of, tsqr_flush
   use TAGGED(leastsq_team), only: team_size, run_team, reach
   use TAGGED(leastsq_pipeline), only: fold_diagonal_by
   use TAGGED(leastsq_refold), only: refold_by, rows_to_columns, pivots_proved
   use TAGGED(leastsq_reflectors), only: make_reflector, TAGGED(lsq_norm)
   use TAGGED(leastsq_pivot_guess), only: guess_pivots
   implicit none (type, external)
   private
   public :: TAGGED(lsq_tsqr_fold), TAGGED(lsq_tsqr_triangle)
   public :: TAGGED(lsq_tsqr_finish), TAGGED(lsq_tsqr_qrsolv)

   !> A downdated column norm is recomputed when (norm/reference)² falls below this:
   !> by then cancellation has destroyed half of its digits (Drmač and Bujanović, ACM
   !> Trans. Math. Softw. 35, 2008).  MINPACK waits until two per cent of them are left.
   real(wp), parameter :: HALF_THE_DIGITS = 2.0_wp**(-26)
   !> With at least this many remaining columns, guessing the pivots is faster.
   integer(ik), parameter :: GUESS_FROM = 96
   !> If a round of guesses settles less than this fraction of the columns, it is the last.
   integer(ik), parameter :: LEAST_PART = 8
   !> Columns that a thread copies at a time: whole cache lines of a row.
   integer(ik), parameter :: BAND = 64
   !> Columns between two checks whether the caller has cancelled the work.
   integer(ik), parameter :: LOOK_EVERY = 8
   !> What the caller of finish knows about the order of the columns (kernels.h).
   integer(ik), parameter :: ORDER_LIKELY = 1, ORDER_PUSHED = 2
   !> Norms in whose range G = R'R keeps its digits.
   real(wp), parameter :: SMALLEST_NORM = 2.0_wp**(-400), LARGEST_NORM = 2.0_wp**400

   !> Data that the threads share.
   type :: reading_t
      type(c_ptr) :: team
      integer(ik) :: n, ldr
      type(c_ptr) :: work, r, column_norms
   end type reading_t

contains

   !> Fold the waiting rows, so that the triangle is that of all rows.
   subroutine TAGGED(lsq_tsqr_fold)(n, work) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(inout) :: work(*)            !< the accumulator

      call tsqr_flush(layout_of(n), work)
   end subroutine TAGGED(lsq_tsqr_fold)

   !> The place of the triangle in an accumulator: T(j, k), k >= j, both from 0, is at
   !> offset `place + j*ldt + k`, in doubles.
   function TAGGED(lsq_tsqr_triangle)(n, ldt) result(place) bind(c)
      integer(ik), intent(in), value :: n
      integer(ik), intent(out) :: ldt
      integer(ik) :: place
      type(layout_t) :: at

      at = layout_of(n)
      ldt = at%ldt
      place = at%triangle - 1
   end function TAGGED(lsq_tsqr_triangle)

   !> R, P and Q'f of J P = Q R for the rows pushed so far.  The accumulator's memory is
   !> overwritten.  If a column norm is not finite, ipvt is the identity and R is not
   !> pivoted, so that the caller can say which column is at fault.
   subroutine TAGGED(lsq_tsqr_finish)(n, work, r, ldr, ipvt, qtf, column_norms, rest, team, expected) bind(c)
      integer(ik), intent(in), value :: n
      real(wp), intent(inout), target :: work(*)    !< the accumulator; must be emptied before its next use
      integer(ik), intent(in), value :: ldr         !< leading dimension, >= n
      real(wp), intent(inout), target :: r(ldr, n)  !< R; zero below its diagonal
      integer(ik), intent(inout) :: ipvt(n)         !< column ipvt(j) of J became the j-th; from 1
      real(wp), intent(inout), target :: qtf(n)     !< the first n elements of Q'f
      real(wp), intent(out), target :: column_norms(n)      !< of J, in its own order
      real(wp), intent(out) :: rest                 !< norm of the rest of Q'f: the least |f - J x|
      type(c_ptr), intent(in), value :: team        !< kernels.h: lsq_team; or NULL
      !> ORDER_LIKELY: ipvt holds a permutation that is likely to be the answer.  ORDER_PUSHED: so it does,
      !> and column j of the accumulator is column ipvt(j) of J.
      integer(ik), intent(in), value :: expected
      type(layout_t) :: at
      type(reading_t), target :: job
      integer(ik) :: j, settled, before, heights
      logical :: worth_guessing

      at = layout_of(n)
      call tsqr_flush(at, work)
      heights = at%heights - 1
      do j = 1, n
         if (expected == ORDER_LIKELY) work(heights + j) = real(ipvt(j), wp)
         if (expected /= ORDER_PUSHED) ipvt(j) = j
         qtf(j) = work(at%triangle + (j - 1)*at%ldt + n)
      end do
      rest = abs(work(at%triangle + n*at%ldt + n))
      job = reading_t(team, n, ldr, c_loc(work), c_loc(r), c_loc(column_norms))
      call run_team(team, read_share, c_loc(job))
      if (expected == ORDER_PUSHED) call to_places(n, ipvt, column_norms, work(at%block))
      if (.not. all(column_norms <= huge(1.0_wp))) then
         do j = 1, n
            ipvt(j) = j
         end do
         return
      end if

      settled = 0
      worth_guessing = all((column_norms >= SMALLEST_NORM .and. column_norms <= LARGEST_NORM) &
                           .or. column_norms <= 0)
      if (expected == ORDER_PUSHED .and. worth_guessing) call pivots_proved(n, r, ldr, work(at%block), settled)
      if (expected == ORDER_LIKELY .and. worth_guessing .and. n >= GUESS_FROM) then
         do j = 1, n
            ipvt(j) = int(work(heights + j), ik)
         end do
         call settle_in_order(n, n, settled, r, ldr, qtf, rest, work, team)
         if (reach(team, 0_ik, 1_ik)) return
      end if
      do while (worth_guessing .and. n - settled >= GUESS_FROM)
         before = settled
         call settle_by_guess(n, settled, r, ldr, ipvt, qtf, rest, work, team)
         if (reach(team, 0_ik, 1_ik)) return
         worth_guessing = settled - before >= (n - before)/LEAST_PART
      end do
      call pivoted_qr(n, settled + 1, r, ldr, ipvt, qtf, work(at%block), work(at%block + n), work(at%block + 2*n), team)
   end subroutine TAGGED(lsq_tsqr_finish)

   !> Element j goes to place ipvt(j).
   pure subroutine to_places(n, ipvt, elements, kept)
      integer(ik), intent(in) :: n, ipvt(n)
      real(wp), intent(inout) :: elements(n)
      real(wp), intent(out) :: kept(n)         !< scratch
      integer(ik) :: j

      kept = elements
      do j = 1, n
         elements(ipvt(j)) = kept(j)
      end do
   end subroutine to_places

   !> A thread's share of the columns, from the accumulator to r, and their norms.
   subroutine read_share(number, data) bind(c, name='')
      integer(ik), value :: number
      type(c_ptr), value :: data
      type(reading_t), pointer :: job
      type(layout_t) :: at
      real(wp), pointer, contiguous :: work(:), r(:, :), column_norms(:)
      integer(ik) :: from, to, k

      call c_f_pointer(data, job)
      at = layout_of(job%n)
      call c_f_pointer(job%work, work, [at%length])
      call c_f_pointer(job%r, r, [job%ldr, job%n])
      call c_f_pointer(job%column_norms, column_norms, [job%n])
      do from = 1 + number*BAND, job%n, team_size(job%team)*BAND
         to = min(from + BAND - 1, job%n)
         call rows_to_columns(job%n, from, to, at%ldt, work(at%triangle:), job%ldr, r)
         do k = from, to
            column_norms(k) = TAGGED(lsq_norm)(k, r(:, k))
         end do
      end do
   end subroutine read_share

   !> Guess the pivots of the columns that are not settled, compute the triangle in that
   !> order, and settle those that prove to be pivots.
   subroutine settle_by_guess(n, settled, r, ldr, ipvt, qtf, rest, work, team)
      integer(ik), intent(in) :: n, ldr
      integer(ik), intent(inout) :: settled           !< columns 1:settled are final
      real(wp), intent(inout), target :: r(ldr, n), qtf(n)
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: rest
      real(wp), intent(inout), target :: work(*)      !< an accumulator's room
      type(c_ptr), intent(in) :: team
      type(layout_t) :: at
      integer(ik) :: first, left, known, exchanges, heights, j, k

      first = settled + 1
      left = n - settled
      at = layout_of(n)
      heights = at%heights - 1
      ! G is stored in the memory of the triangle, and a little of the block's.
      at = layout_of(left)
      call guess_pivots(team, left, r(first, first), ldr, known, work(at%triangle), at%ldt)
      if (known == 0) return
      exchanges = at%triangle - 1 + at%ldt*(left + 2)
      do j = 1, left
         work(heights + j) = real(j, wp)
      end do
      do j = 1, known
         k = int(work(exchanges + j), ik)
         call exchange_columns(settled, settled + j, settled + k, r, ldr, ipvt)
         call exchange_heights(work(heights + j), work(heights + k))
      end do

      call settle_in_order(n, known, settled, r, ldr, qtf, rest, work, team)
   end subroutine settle_by_guess

   !> Compute the triangle with the unsettled columns in the order given in `heights`, and
   !> settle those of the first `known` that prove to be pivots.
   subroutine settle_in_order(n, known, settled, r, ldr, qtf, rest, work, team)
      integer(ik), intent(in) :: n, known, ldr
      integer(ik), intent(inout) :: settled
      real(wp), intent(inout), target :: r(ldr, n), qtf(n)
      real(wp), intent(inout) :: rest
      real(wp), intent(inout), target :: work(*)      !< an accumulator's room, the order in its heights
      type(c_ptr), intent(in) :: team
      type(layout_t) :: at
      integer(ik) :: first, left, heights, k

      first = settled + 1
      left = n - settled
      at = layout_of(n)
      heights = at%heights - 1
      at = layout_of(left)
      call refold_by(team, left, r(first, first), ldr, qtf(first), work(heights + 1), work)
      do k = 1, left
         qtf(settled + k) = work(at%triangle + (k - 1)*at%ldt + left)
      end do
      ! Where r is singular to rounding, no column reaches some of qtf.
      rest = TAGGED(lsq_norm)(2_ik, [rest, work(at%triangle + left*at%ldt + left)])
      settled = settled + min(known, int(minval(work(heights + 1:heights + left)), ik))
   end subroutine settle_in_order

   !> Exchange the first rows of columns j and k.
   pure subroutine exchange_columns(rows, j, k, r, ldr, ipvt)
      integer(ik), intent(in) :: rows, j, k, ldr
      real(wp), intent(inout) :: r(ldr, *)
      integer(ik), intent(inout) :: ipvt(*)
      real(wp) :: kept
      integer(ik) :: i, kept_index

      if (j == k) return
      do i = 1, rows
         kept = r(i, j)
         r(i, j) = r(i, k)
         r(i, k) = kept
      end do
      kept_index = ipvt(j)
      ipvt(j) = ipvt(k)
      ipvt(k) = kept_index
   end subroutine exchange_columns

   !> Column-pivoted Householder QR of the trailing triangle from `first` on.
   !>
   !> A column of a triangle is zero below its height.  A reflector reaches down to the
   !> height of the column that it clears, and raises the heights of the others to it.
   subroutine pivoted_qr(n, first, r, ldr, ipvt, qtf, norms, reference, height, team)
      integer(ik), intent(in) :: n, first, ldr
      real(wp), intent(inout) :: r(ldr, n)            !< zero below the triangle on entry
      integer(ik), intent(inout) :: ipvt(n)
      real(wp), intent(inout) :: qtf(n)
      real(wp), intent(inout) :: norms(n)             !< of the remaining parts of the columns
      real(wp), intent(inout) :: reference(n)         !< their norms when last computed
      real(wp), intent(inout) :: height(n)            !< whole numbers
      type(c_ptr), intent(in) :: team                 !< checked now and then for cancellation
      real(wp) :: tau, ratio
      integer(ik) :: j, k, chosen, rows
      logical :: digits_lost

      do k = first, n
         norms(k) = TAGGED(lsq_norm)(k - first + 1, r(first, k))
         reference(k) = norms(k)
         height(k) = real(k, wp)
      end do
      do j = first, n
         chosen = j
         do k = j + 1, n
            if (norms(k) > norms(chosen)) chosen = k
         end do
         if (chosen /= j) then
            call exchange_columns(n, j, chosen, r, ldr, ipvt)
            norms(chosen) = norms(j)
            reference(chosen) = reference(j)
            call exchange_heights(height(j), height(chosen))
         end if
         rows = int(height(j), ik) - j
         if (rows > 0) then
            call make_reflector(rows, r(j + 1, j), sum(r(j + 1:j + rows, j)**2), r(j, j), tau)
            do k = j + 1, n - 3, 4
               call reflect_four(rows, tau, r(j + 1, j), r(j, k), ldr)
            end do
            do k = k, n
               call reflect_one(rows, tau, r(j + 1, j), r(j, k))
            end do
            call reflect_one(rows, tau, r(j + 1, j), qtf(j))
            height(j + 1:n) = max(height(j + 1:n), height(j))
         end if
         do k = j + 1, n
            if (norms(k) <= 0) cycle
            ratio = r(j, k)/norms(k)
            norms(k) = norms(k)*sqrt(max(0.0_wp, 1 - ratio**2))
            digits_lost = (norms(k)/reference(k))**2 <= HALF_THE_DIGITS
            if (digits_lost) then
               norms(k) = TAGGED(lsq_norm)(int(height(k), ik) - j, r(j + 1, k))
               reference(k) = norms(k)
            end if
         end do
         r(j + 1:j + rows, j) = 0
         if (mod(j, LOOK_EVERY) == 0) then
            if (reach(team, 0_ik, j)) return
         end if
      end do
   end subroutine pivoted_qr

   pure subroutine exchange_heights(a, b)
      real(wp), intent(inout) :: a, b
      real(wp) :: kept

      kept = a
      a = b
      b = kept
   end subroutine exchange_heights

   !> Apply a reflector to four columns; row 0 corresponds to its leading 1.
   pure subroutine reflect_four(rows, tau, v, c, ldc)
      integer(ik), intent(in) :: rows, ldc
      real(wp), intent(in) :: tau, v(rows)
      real(wp), intent(inout) :: c(0:ldc - 1, 4)
      real(wp) :: w1, w2, w3, w4
      integer(ik) :: i

      w1 = 0; w2 = 0; w3 = 0; w4 = 0
      !$omp simd reduction(+: w1, w2, w3, w4)
      do i = 1, rows
         w1 = w1 + v(i)*c(i, 1)
         w2 = w2 + v(i)*c(i, 2)
         w3 = w3 + v(i)*c(i, 3)
         w4 = w4 + v(i)*c(i, 4)
      end do
      w1 = tau*(w1 + c(0, 1)); c(0, 1) = c(0, 1) - w1
      w2 = tau*(w2 + c(0, 2)); c(0, 2) = c(0, 2) - w2
      w3 = tau*(w3 + c(0, 3)); c(0, 3) = c(0, 3) - w3
      w4 = tau*(w4 + c(0, 4)); c(0, 4) = c(0, 4) - w4
      !$omp simd
      do i = 1, rows
         c(i, 1) = c(i, 1) - w1*v(i)
         c(i, 2) = c(i, 2) - w2*v(i)
         c(i, 3) = c(i, 3) - w3*v(i)
         c(i, 4) = c(i, 4) - w4*v(i)
      end do
   end subroutine reflect_four

   pure subroutine reflect_one(rows, tau, v, c)
      integer(ik), intent(in) :: rows
      real(wp), intent(in) :: tau, v(rows)
      real(wp), intent(inout) :: c(0:rows)
      real(wp) :: w
      integer(ik) :: i

      w = 0
      !$omp simd reduction(+: w)
      do i = 1, rows
         w = w + v(i)*c(i)
      end do
      w = tau*(w + c(0))
      c(0) = c(0) - w
      !$omp simd
      do i = 1, rows
         c(i) = c(i) - w*v(i)
      end do
   end subroutine reflect_one

   !> MINPACK's qrsolv by blocks: [A; D] x = [b; 0] in the least-squares sense,
   !> given R, P and Q'b of A P = Q R.
   subroutine TAGGED(lsq_tsqr_qrsolv)(n, r, ldr, ipvt, diag, qtb, x, sdiag, wa, work, team) bind(c)
      integer(ik), intent(in), value :: n
      integer(ik), intent(in), value :: ldr       !< leading dimension, >= n
      !> Upper triangle: R, kept.  Strict lower triangle on return: that of S',
      !> P'(A'A + D²)P = S'S.
      real(wp), intent(inout), target :: r(ldr, n)
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in) :: diag(n)             !< D, in the order of A's columns
      real(wp), intent(in) :: qtb(n)              !< first n elements of Q'b
      real(wp), intent(out) :: x(n)               !< the solution
      real(wp), intent(out) :: sdiag(n)           !< diagonal of S, of either sign
      real(wp), intent(out), target :: wa(n)      !< scratch
      real(wp), intent(inout), target :: work(*)  !< of tsqr_work_size(n); overwritten
      type(c_ptr), intent(in), value :: team      !< kernels.h: lsq_team; or NULL
      type(layout_t) :: at
      integer(ik) :: j, k, row, rank

      at = layout_of(n)
      work(at%triangle + n*at%ldt:at%block - 1) = 0
      do k = 1, n
         work(at%triangle + (k - 1)*at%ldt + n) = qtb(k)
         wa(k) = diag(ipvt(k))
      end do
      call fold_diagonal_by(team, n, r, ldr, wa, work)
      do k = 1, n
         row = at%triangle + (k - 1)*at%ldt - 1
         sdiag(k) = work(row + k)
         wa(k) = work(row + n + 1)
      end do

      ! Solve S z = wa; where S is singular, the rest of z is zero.
      rank = n
      do j = 1, n
         if (abs(sdiag(j)) <= 0 .and. rank == n) rank = j - 1
         if (rank < n) wa(j) = 0
      end do
      do j = rank, 1, -1
         wa(j) = (wa(j) - sum(r(j + 1:rank, j)*wa(j + 1:rank)))/sdiag(j)
      end do
      do j = 1, n
         x(ipvt(j)) = wa(j)
      end do
   end subroutine TAGGED(lsq_tsqr_qrsolv)

end module TAGGED(leastsq_triangle)
