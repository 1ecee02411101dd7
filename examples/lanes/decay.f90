! The functions of decay.c in Fortran.
module decay_in_lanes_of_fortran
   use, intrinsic :: iso_c_binding, only: c_double, c_int, c_int32_t, c_int64_t, c_ptr, c_f_pointer
   implicit none

   integer, parameter :: LANES = 8      ! as given to CFunction

contains

   function decay_in_lanes(m, n, wide, x, fvec, data, status) bind(c) result(stop_all)
      integer(c_int64_t), value :: m, n, wide
      real(c_double), intent(in) :: x(LANES, n)
      real(c_double), intent(inout) :: fvec(LANES, m)
      type(c_ptr), intent(in) :: data(LANES)            ! of each problem: t, then y
      integer(c_int32_t), intent(inout) :: status(LANES)
      integer(c_int) :: stop_all
      real(c_double) :: points(LANES, 2*m)
      integer :: i, l

      call gather(2*m, data, points)
      do i = 1, int(m)
         !$omp simd
         do l = 1, LANES
            fvec(l, i) = x(l, 1)*exp(-x(l, 2)*points(l, i)) + x(l, 3) - points(l, m + i)
         end do
      end do
      stop_all = 0
   end function decay_in_lanes

   function decay_jacobian_in_lanes(m, n, wide, x, fjac, data, status) bind(c) result(stop_all)
      integer(c_int64_t), value :: m, n, wide
      real(c_double), intent(in) :: x(LANES, n)
      real(c_double), intent(inout) :: fjac(LANES, m, n)
      type(c_ptr), intent(in) :: data(LANES)
      integer(c_int32_t), intent(inout) :: status(LANES)
      integer(c_int) :: stop_all
      real(c_double) :: t(LANES, m), e
      integer :: i, l

      call gather(m, data, t)
      do i = 1, int(m)
         !$omp simd private(e)
         do l = 1, LANES
            e = exp(-x(l, 2)*t(l, i))
            fjac(l, i, 1) = e
            fjac(l, i, 2) = -x(l, 1)*t(l, i)*e
            fjac(l, i, 3) = 1
         end do
      end do
      stop_all = 0
   end function decay_jacobian_in_lanes

   ! The first numbers of each problem's data, which lie elsewhere for each.
   subroutine gather(count, data, points)
      integer(c_int64_t), intent(in) :: count
      type(c_ptr), intent(in) :: data(LANES)
      real(c_double), intent(out) :: points(LANES, count)
      real(c_double), pointer :: own(:)
      integer :: l

      do l = 1, LANES
         call c_f_pointer(data(l), own, [count])
         points(l, :) = own
      end do
   end subroutine gather

end module decay_in_lanes_of_fortran
