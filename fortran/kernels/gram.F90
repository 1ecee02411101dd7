#define PASTE(a) a
#define TAGGED(a) PASTE(a)PASTE(_)PASTE(ISA)
!> Products of large triangles, in pieces that stay in cache.
!>
!> gram computes a'a; take_off subtracts multiples of four columns from three others; covar
!> computes the covariance as leastsq_covar does (ANL-80-74, covar), with these two.
!>
!> Public: gram, take_off; lsq_tsqr_covar_<ISA>, for C.  All data is n-sized.
module TAGGED(leastsq_gram)
   use, intrinsic :: iso_c_binding, only: wp => c_double, ik => c_int64_t, c_ptr, c_f_pointer, c_loc
   use TAGGED(leastsq_team), only: team_size, run_team, await, reach
   implicit none (type, external)
   private
   public :: gram, take_off, TAGGED(lsq_tsqr_covar)

   integer(ik), parameter :: STRIP = 256      !< rows of a strip
   integer(ik), parameter :: BAND = 24        !< columns of a strip that stay in L2, a multiple of 3
   integer(ik), parameter, public :: FOUR = 4       !< columns of one inner loop, and
   integer(ik), parameter :: THREE = 3

   !> Data that the threads share which compute a covariance.
   type :: covar_t
      type(c_ptr) :: team
      integer(ik) :: rank, n, ldr
      type(c_ptr) :: r, z, g
   end type covar_t

contains

   !> Compute the lower triangle of g = a'a, where a is an upper triangle with zeros
   !> below.  The elements of g above its diagonal are meaningless afterwards.  Shared among threads: thread
   !> `number` computes every `sharers`-th band, starting at band `number`.
   pure subroutine gram(n, a, lda, ldg, g, number, sharers)
      integer(ik), intent(in) :: n, lda, ldg
      integer(ik), intent(in) :: number, sharers       !< 0 to sharers - 1
      real(wp), intent(in) :: a(lda, n)
      real(wp), intent(inout) :: g(ldg, n)
      integer(ik) :: first, last, from, rows, j, k

      do first = 1 + number*BAND, n, sharers*BAND
         last = min(first + BAND - 1, n)
         g(first:n, first:last) = 0
         do from = 1, last, STRIP
            rows = min(STRIP, last - from + 1)
            do k = first, n, FOUR
               do j = first, min(last, k + FOUR - 1), THREE
                  if (k + FOUR - 1 <= n .and. j + THREE - 1 <= last) then
                     call add_products(rows, lda, a(from, k), a(from, j), ldg, g(k, j))
                  else
                     call add_edge(rows, min(FOUR, n - k + 1), min(THREE, last - j + 1), lda, &
                                   a(from, k), a(from, j), ldg, g(k, j))
                  end if
               end do
            end do
         end do
      end do
   end subroutine gram

   !> Add the inner products of four columns with three to g(1:4, 1:3).
   pure subroutine add_products(rows, lda, a, b, ldg, g)
      integer(ik), intent(in) :: rows, lda, ldg
      real(wp), intent(in) :: a(lda, FOUR), b(lda, THREE)
      real(wp), intent(inout) :: g(ldg, THREE)
      real(wp) :: g11, g21, g31, g41, g12, g22, g32, g42, g13, g23, g33, g43
      integer(ik) :: i

      g11 = 0; g21 = 0; g31 = 0; g41 = 0
      g12 = 0; g22 = 0; g32 = 0; g42 = 0
      g13 = 0; g23 = 0; g33 = 0; g43 = 0
      !$omp simd reduction(+: g11, g21, g31, g41, g12, g22, g32, g42, g13, g23, g33, g43)
      do i = 1, rows
         g11 = g11 + a(i, 1)*b(i, 1)
         g21 = g21 + a(i, 2)*b(i, 1)
         g31 = g31 + a(i, 3)*b(i, 1)
         g41 = g41 + a(i, 4)*b(i, 1)
         g12 = g12 + a(i, 1)*b(i, 2)
         g22 = g22 + a(i, 2)*b(i, 2)
         g32 = g32 + a(i, 3)*b(i, 2)
         g42 = g42 + a(i, 4)*b(i, 2)
         g13 = g13 + a(i, 1)*b(i, 3)
         g23 = g23 + a(i, 2)*b(i, 3)
         g33 = g33 + a(i, 3)*b(i, 3)
         g43 = g43 + a(i, 4)*b(i, 3)
      end do
      g(1:FOUR, 1) = g(1:FOUR, 1) + [g11, g21, g31, g41]
      g(1:FOUR, 2) = g(1:FOUR, 2) + [g12, g22, g32, g42]
      g(1:FOUR, 3) = g(1:FOUR, 3) + [g13, g23, g33, g43]
   end subroutine add_products

   !> The same for fewer columns.
   pure subroutine add_edge(rows, some, others, lda, a, b, ldg, g)
      integer(ik), intent(in) :: rows, some, others, lda, ldg
      real(wp), intent(in) :: a(lda, some), b(lda, others)
      real(wp), intent(inout) :: g(ldg, others)
      real(wp) :: total
      integer(ik) :: i, j, k

      do j = 1, others
         do k = 1, some
            total = 0
            !$omp simd reduction(+: total)
            do i = 1, rows
               total = total + a(i, k)*b(i, j)
            end do
            g(k, j) = g(k, j) + total
         end do
      end do
   end subroutine add_edge

   !> c = c - v w: four columns of v, three of c.
   pure subroutine take_off(rows, ldv, v, w, ldc, c)
      integer(ik), intent(in) :: rows, ldv, ldc
      real(wp), intent(in) :: v(ldv, FOUR), w(FOUR, THREE)
      real(wp), intent(inout) :: c(ldc, THREE)
      integer(ik) :: i

      !$omp simd
      do i = 1, rows
         c(i, 1) = c(i, 1) - v(i, 1)*w(1, 1) - v(i, 2)*w(2, 1) - v(i, 3)*w(3, 1) - v(i, 4)*w(4, 1)
         c(i, 2) = c(i, 2) - v(i, 1)*w(1, 2) - v(i, 2)*w(2, 2) - v(i, 3)*w(3, 2) - v(i, 4)*w(4, 2)
         c(i, 3) = c(i, 3) - v(i, 1)*w(1, 3) - v(i, 2)*w(2, 3) - v(i, 3)*w(3, 3) - v(i, 4)*w(4, 3)
      end do
   end subroutine take_off

   !> covar by blocks: R⁻¹R⁻ᵀ = Z'Z with rows and columns in reverse order, where Z is the
   !> inverse of R' with rows and columns in reverse order, again an upper triangle.
   function TAGGED(lsq_tsqr_covar)(n, r, ldr, ipvt, tol, cov, scratch, team) result(rank) bind(c)
      integer(ik), intent(in), value :: n, ldr
      real(wp), intent(in), target :: r(ldr, n)   !< upper triangle: R
      integer(ik), intent(in) :: ipvt(n)          !< the permutation P
      real(wp), intent(in), value :: tol          !< relative; 0 finds exact zeros only
      real(wp), intent(inout), target :: cov(n, n)     !< symmetric to the bit
      real(wp), intent(inout), target :: scratch(n, n)
      type(c_ptr), intent(in), value :: team      !< kernels.h: lsq_team; or NULL
      integer(ik) :: rank                         !< see leastsq_covar
      type(covar_t), target :: job
      integer(ik) :: i, j, at_i, at_j

      rank = 0
      do j = 1, n
         if (.not. abs(r(j, j)) > tol*abs(r(1, 1))) exit
         rank = j
      end do
      job = covar_t(team, rank, n, ldr, c_loc(r), c_loc(cov), c_loc(scratch))
      call run_team(team, covar_share, c_loc(job))
      cov = 0
      do j = 1, rank
         at_j = ipvt(rank + 1 - j)
         do i = j, rank
            at_i = ipvt(rank + 1 - i)
            cov(at_i, at_j) = scratch(i, j)
            cov(at_j, at_i) = scratch(i, j)
         end do
      end do
   end function TAGGED(lsq_tsqr_covar)

   !> The work of thread k: every `sharers`-th band of Z, and then of Z'Z.  Its counter is
   !> the number of its last finished band, and in the end the number of all bands.
   subroutine covar_share(number, data) bind(c, name='')
      integer(ik), value :: number
      type(c_ptr), value :: data
      type(covar_t), pointer :: job
      real(wp), pointer, contiguous :: r(:, :), z(:, :), g(:, :)
      integer(ik) :: band_number, first, last, k, sharers

      call c_f_pointer(data, job)
      call c_f_pointer(job%r, r, [job%ldr, job%n])
      call c_f_pointer(job%z, z, [job%n, job%n])
      call c_f_pointer(job%g, g, [job%n, job%n])
      sharers = team_size(job%team)
      do band_number = 1 + number, (job%rank + BAND - 1)/BAND, sharers
         first = 1 + (band_number - 1)*BAND
         last = min(first + BAND - 1, job%rank)
         z(1:job%rank, first:last) = 0
         do k = 1, band_number - 1
            if (await(job%team, number, mod(k - 1, sharers), k)) return
            call take_off_band(job%rank, r, job%ldr, job%n, z, 1 + (k - 1)*BAND, first, last)
         end do
         call invert_band(job%rank, r, job%ldr, job%n, z, first, last)
         if (reach(job%team, number, band_number)) return
      end do
      if (reach(job%team, number, job%n + 1)) return
      do k = 0, sharers - 1
         if (await(job%team, number, k, job%n + 1)) return
      end do
      call gram(job%rank, z, job%n, job%n, g, number, sharers)
   end subroutine covar_share

   ! z = the inverse of s, where s(i, j) = r(rank+1-j, rank+1-i), by bands of columns.

   !> Subtract the contribution of the BAND columns from `from` on from a later band.
   pure subroutine take_off_band(rank, r, ldr, ldz, z, from, first, last)
      integer(ik), intent(in) :: rank, ldr, ldz, from, first, last
      real(wp), intent(in) :: r(ldr, rank)
      real(wp), intent(inout) :: z(ldz, rank)
      real(wp) :: s(FOUR, THREE)
      integer(ik) :: i, j, k, w

      do k = from, from + BAND - 1, FOUR
         do j = first, last, THREE
            s = 0
            do i = j, min(j + THREE - 1, last)
               s(:, i - j + 1) = r(rank + 1 - i, rank + 1 - k:rank + 2 - k - FOUR:-1)
            end do
            if (j + THREE - 1 <= last) then
               call take_off(k + FOUR - 1, ldz, z(1, k), s, ldz, z(1, j))
            else
               do i = j, last
                  do w = 1, FOUR
                     z(1:k + w - 1, i) = z(1:k + w - 1, i) - z(1:k + w - 1, k + w - 1)*s(w, i - j + 1)
                  end do
               end do
            end if
         end do
      end do
   end subroutine take_off_band

   !> Finish a band by its own columns.
   pure subroutine invert_band(rank, r, ldr, ldz, z, first, last)
      integer(ik), intent(in) :: rank, ldr, ldz, first, last
      real(wp), intent(in) :: r(ldr, rank)
      real(wp), intent(inout) :: z(ldz, rank)
      integer(ik) :: j, k

      do j = first, last
         do k = first, j - 1
            z(1:k, j) = z(1:k, j) - z(1:k, k)*r(rank + 1 - j, rank + 1 - k)
         end do
         z(1:j - 1, j) = z(1:j - 1, j)/r(rank + 1 - j, rank + 1 - j)
         z(j, j) = 1/r(rank + 1 - j, rank + 1 - j)
      end do
   end subroutine invert_band

end module TAGGED(leastsq_gram)
