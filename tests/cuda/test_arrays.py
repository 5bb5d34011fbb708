import ctypes
import sys
import types

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import DeviceMemoryError, InvalidArgumentError, InvalidTypeError, _backends, _validate
from sdie_fast.cuda import arrays, driver, streams
from sdie_fast.cuda.views import DeviceArray

# In the simulator device memory is the host's: these stand for arrays of other libraries.


class Foreign:
    """An array that has a CUDA array interface and nothing else."""

    def __init__(self, array, stream=None, **more):
        self.array = array
        given = array.__array_interface__
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": array.shape,
            "strides": None if array.flags.c_contiguous else array.strides,
            "typestr": array.dtype.str,
            "data": given["data"],
            "stream": stream,
            **more,
        }


class _Header(ctypes.Structure):
    """The beginning of DLManagedTensor: data, then the device's type and number."""

    _fields_ = (("data", ctypes.c_void_p), ("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class Capsuled:
    """An array that speaks DLPack and says that it is on a GPU."""

    def __init__(self, array, number=0):
        self.array = array
        self.number = number
        self.streams = []

    def __dlpack_device__(self):
        return 2, self.number

    def __dlpack__(self, *, stream=None, **options):
        self.streams.append(stream)
        capsule = self.array.__dlpack__()
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        header = _Header.from_address(get(capsule, b"dltensor"))
        header.kind, header.number = 2, self.number
        return capsule


class _CupyArray:
    def __init__(self, array):
        self.array = array
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype
        self.__cuda_array_interface__ = array.__array_interface__
        self.device = _CupyDevice()


class _CupyDevice:
    id = 0
    entered = 0

    def __enter__(self):
        _CupyDevice.entered += 1

    def __exit__(self, *error):
        _CupyDevice.entered -= 1


@pytest.fixture
def cupy(monkeypatch):
    def current():
        assert _CupyDevice.entered
        return types.SimpleNamespace(ptr=77)

    module = types.SimpleNamespace(
        ndarray=_CupyArray,
        empty=lambda shape, dtype: _CupyArray(np.empty(shape, dtype)),
        cuda=types.SimpleNamespace(get_current_stream=current),
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def tensor(monkeypatch):
    """Makes torch tensors that say that they are on a GPU."""
    torch = pytest.importorskip("torch")

    class Tensor(torch.Tensor):
        is_cuda = True
        device = types.SimpleNamespace(index=0)

    def make(array):
        return torch.from_numpy(array).as_subclass(Tensor)

    def empty(shape, *, dtype, device):
        assert device is Tensor.device
        return torch.zeros(shape, dtype=dtype).as_subclass(Tensor)

    def current_stream(device):
        assert device is Tensor.device
        return types.SimpleNamespace(cuda_stream=4321)

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    return make


IMAGE = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)


def values(array):
    """Read what is described, in the simulator."""
    return np.array(array.addresses)


class TestWhatIsTaken:
    pytestmark = pytest.mark.usefixtures("simulated")

    @pytest.mark.parametrize("value", [None, 3, [1, 2], IMAGE, "x", np.float32(1), types.SimpleNamespace()])
    def test_the_hosts_things_are_not_on_a_device(self, value):
        assert not arrays.on_device(value)
        assert _backends.placed("image", value) is value

    def test_torch_of_the_host_is_not(self):
        torch = pytest.importorskip("torch")
        for value in (torch.zeros(3), torch.zeros(3, requires_grad=True)):
            assert not arrays.on_device(value)
        with pytest.raises(InvalidTypeError, match=r"of type Tensor; accepted: a numpy\.ndarray, or"):
            sdie.enhance(torch.zeros(9, 9), np.ones(6))

    def test_interface(self):
        for view in (IMAGE, IMAGE[::2, ::-2], IMAGE.T):
            foreign = Foreign(view)
            assert arrays.on_device(foreign)
            found = arrays.describe("image", foreign)
            assert (found.shape, found.strides, found.dtype) == (view.shape, view.strides, np.uint8)
            assert (found.device, found.stream, found.library) == (0, 1, "other")
            assert found.owner is foreign
            np.testing.assert_array_equal(values(found), view)

    @pytest.mark.parametrize(("given", "handle"), [(None, 1), (1, 1), (2, 2), (12345, 12345)])
    def test_stream_of_an_interface(self, given, handle):
        assert arrays.describe("image", Foreign(IMAGE, given)).stream == handle

    def test_interface_without_a_stream(self):
        foreign = Foreign(IMAGE)
        del foreign.__cuda_array_interface__["stream"]  # versions 0 to 2
        assert arrays.describe("image", foreign).stream == streams.LEGACY

    def test_masks_are_refused(self):
        with pytest.raises(InvalidTypeError, match="image: received a masked array"):
            arrays.describe("image", Foreign(IMAGE, mask=Foreign(IMAGE)))

    def test_dlpack(self):
        for view in (IMAGE.copy(), IMAGE.copy()[::2, ::3], np.zeros((2, 3, 4), np.float32)):
            capsuled = Capsuled(view)
            assert arrays.on_device(capsuled)
            found = arrays.describe("image", capsuled)
            assert capsuled.streams == [streams.LEGACY]  # the producer is told who reads
            assert (found.shape, found.strides, found.dtype) == (view.shape, view.strides, view.dtype)
            np.testing.assert_array_equal(values(found), view)

    def test_dlpack_of_the_host_is_not_on_a_device(self):
        class Host(Capsuled):
            def __dlpack_device__(self):
                return 1, 0

        assert not arrays.on_device(Host(IMAGE))

    def test_dlpack_that_fails(self):
        class Broken(Capsuled):
            def __dlpack__(self, **options):
                raise BufferError("it is sealed")

        with pytest.raises(InvalidTypeError, match=r"Broken whose __dlpack__ .*: it is sealed"):
            arrays.describe("image", Broken(IMAGE))

    def test_numba(self, cuda):
        array = cuda.to_device(IMAGE)
        assert arrays.on_device(array)
        found = arrays.describe("image", array)
        assert (found.library, found.stream, found.shape) == ("numba", 1, (6, 8))
        np.testing.assert_array_equal(values(found), IMAGE)
        made = arrays.empty_like(found)
        assert type(made) is type(array)
        assert (tuple(made.shape), made.dtype) == ((6, 8), np.uint8)

    def test_cupy(self, cupy):
        found = arrays.describe("image", _CupyArray(IMAGE[:, ::2]))
        assert (found.library, found.stream, found.strides) == ("cupy", 77, (8, 2))
        np.testing.assert_array_equal(values(found), IMAGE[:, ::2])
        assert isinstance(arrays.empty_like(found), _CupyArray)

    def test_torch(self, tensor):
        found = arrays.describe("image", tensor(IMAGE.copy())[:, ::2])
        assert (found.library, found.stream, found.strides) == ("torch", 4321, (8, 2))
        np.testing.assert_array_equal(values(found), IMAGE[:, ::2])
        assert arrays.describe("image", tensor(np.zeros((2, 2), np.uint16))).dtype == np.uint16
        made = arrays.empty_like(found)
        assert type(made).__name__ == "Tensor"
        assert made.is_contiguous()

    def test_torch_tensors_that_cannot_be_taken(self, tensor):
        torch = sys.modules["torch"]
        learning = tensor(np.zeros((9, 9), np.float32)).requires_grad_()
        with pytest.raises(InvalidArgumentError, match=r"gradient.* accepted: image.detach\(\)"):
            arrays.describe("image", learning)
        half = tensor(np.zeros((9, 9), np.float32)).to(torch.bfloat16)
        with pytest.raises(InvalidTypeError, match=r"received .*bfloat16 .*dtypes: uint8"):
            sdie.enhance(half, np.ones(6))
        sparse = types.SimpleNamespace(layout=torch.sparse_coo, shape=(2, 2))
        with pytest.raises(InvalidTypeError, match=r"layout torch.sparse_coo"):
            arrays._torch("image", sparse)

    @pytest.mark.parametrize("library", ["torch", "cupy", "numba"])
    def test_what_is_kept_gives_way_to_a_result(self, monkeypatch, tensor, cupy, cuda, library):
        from sdie_fast.cuda import memory

        given = {"torch": tensor, "cupy": _CupyArray, "numba": cuda.to_device}[library](IMAGE.copy())
        found = arrays.describe("image", given)
        place, name = {
            "torch": (sys.modules["torch"], "empty"),
            "cupy": (cupy, "empty"),
            "numba": (cuda, "device_array"),
        }[library]
        real, dropped = getattr(place, name), []

        def full(*arguments, **options):
            if not dropped:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return real(*arguments, **options)

        monkeypatch.setattr(memory.cache, "clear", lambda: dropped.append(1))
        monkeypatch.setattr(place, name, full)
        assert type(arrays.empty_like(found)) is type(given)
        assert dropped == [1]
        monkeypatch.setattr(memory.cache, "clear", lambda: None)
        dropped.clear()
        with pytest.raises(DeviceMemoryError, match=r"needs 0 MiB more of GPU memory; free: .*torch.cuda.empty_cache"):
            arrays.empty_like(found)

    def test_other_errors_of_a_result_stay(self, monkeypatch, tensor):
        def fail(*arguments, **options):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        found = arrays.describe("image", tensor(IMAGE.copy()))
        monkeypatch.setattr(sys.modules["torch"], "empty", fail)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            arrays.empty_like(found)

    def test_another_device(self, monkeypatch, tensor):
        monkeypatch.setattr(driver, "current_device", lambda: 3)
        told = r"uint8 array of shape \(6, 8\) on CUDA device 0; accepted: .* current device, 3"
        with pytest.raises(InvalidArgumentError, match=told + r".*numba.cuda.gpus\[0\]"):
            arrays.describe("image", Foreign(IMAGE))
        with pytest.raises(InvalidArgumentError, match=told + r".*torch.cuda.device\(0\)"):
            arrays.describe("image", tensor(IMAGE.copy()))


def device_array(array, device=0, stream=1):
    return DeviceArray(
        array.ctypes.data, array.shape, array.strides, array.dtype, True, device, stream, "other", array
    )


class TestDeviceArray:
    """Addresses alone: nothing here is read."""

    def test_indexing_is_numpys(self):
        base = np.zeros((4, 6, 3), np.uint16)
        array = device_array(base)
        for index in (
            np.s_[1:3],
            np.s_[::-1, ::2],
            np.s_[..., 0],
            np.s_[np.newaxis, :, :, np.newaxis],
            np.s_[2],
            np.s_[-1, 1, 2],
        ):
            view = (
                base[(*(index if isinstance(index, tuple) else (index,)), ...)[:None]]
                if not (isinstance(index, tuple) and Ellipsis in index)
                else base[index]
            )
            part = array[index]
            assert (part.shape, part.strides) == (view.shape, view.strides)
            assert part.pointer == view.__array_interface__["data"][0]

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_flags_are_numpys(self, dtype):
        base = np.zeros((4, 6, 1, 3), dtype)
        for view in (
            base,
            base[1:3],
            base[:, ::2],
            base[:1, :1, :, 1:2],
            base[::-1],
            base[:1, ::-1],
            base.transpose(1, 0, 2, 3),
            base[:, :, 0],
            base[:0, ::2],
            np.broadcast_to(base[:1], base.shape),
            np.ndarray((1, 3), dtype, np.zeros(16, dtype), 0, (7, base.itemsize)),  # the first axis is never walked
            np.zeros((3, 8 * base.itemsize + 1), np.uint8)[:, 1:].view(dtype),
            np.zeros(8 * base.itemsize + 1, np.uint8)[1:].view(dtype),
        ):
            flags = device_array(view).flags
            assert flags.c_contiguous == view.flags.c_contiguous
            assert flags.aligned == view.flags.aligned

    def test_no_element_is_read(self):
        nowhere = DeviceArray(4096, (2, 3), (12, 4), np.dtype("f4"), True, 0, 1, "other", None)
        assert nowhere[1, 2].pointer == 4096 + 12 + 8
        assert nowhere[1, 2].shape == ()
        assert (nowhere.size, nowhere.itemsize, nowhere.ndim, len(nowhere)) == (6, 4, 2, 2)
        assert "4096" in repr(nowhere)


class TestChecks:
    """The messages are those for arrays on the host."""

    def test_shapes(self):
        planes = _validate.image(device_array(np.zeros((2, 6, 8), np.float32)))
        assert isinstance(planes, DeviceArray)
        assert planes.shape == (2, 6, 8, 1)
        assert _validate.image(device_array(np.zeros((6, 8, 3), np.uint8))).shape == (1, 6, 8, 3)
        assert _validate.image(device_array(np.zeros((6, 8, 1), np.uint8))).shape == (1, 6, 8, 1)
        assert _validate.image(device_array(np.zeros((6, 8, 4), np.uint8)), axes="NHW").shape == (6, 8, 4, 1)

    @pytest.mark.parametrize(
        ("array", "error", "told"),
        [
            (np.zeros((6, 8), np.float64), InvalidTypeError, r"float64 .* on CUDA device 0; .*uint8"),
            (np.zeros((6, 8), ">u2"), InvalidTypeError, "native byte order"),
            (np.zeros(5, np.uint8), InvalidArgumentError, r"shapes \(H, W\)"),
            (np.zeros((6, 8, 4), np.uint8), InvalidArgumentError, "on CUDA device 0: 4 channels; accepted: 1 or 3"),
            (np.zeros((0, 8), np.uint8), InvalidArgumentError, "empty"),
            (np.zeros((6, 33), np.uint8)[:, 1:].view("f4"), InvalidArgumentError, "misaligned"),
        ],
    )
    def test_bad_images(self, array, error, told):
        with pytest.raises(error, match=told):
            _validate.image(device_array(array))

    @pytest.mark.parametrize(
        ("out", "error", "told"),
        [
            (device_array(np.zeros((6, 8), np.uint8)), InvalidTypeError, "accepted dtype"),
            (device_array(np.zeros((6, 9), np.float32)), InvalidArgumentError, "shape"),
            (
                device_array(np.zeros((6, 8), np.float32), 1),
                InvalidArgumentError,
                "on CUDA device 1; accepted: an array on CUDA device 0",
            ),
            (np.zeros((6, 8), np.float32), InvalidArgumentError, "on the host; accepted: an array on CUDA device 0"),
            (device_array(np.broadcast_to(np.float32(0), (6, 8))), InvalidArgumentError, "do not overlap"),
        ],
    )
    def test_bad_outputs(self, out, error, told):
        with pytest.raises(error, match=f"out: received .*{told}"):
            _validate.output(out, device_array(np.zeros((6, 8), np.float32)))

    def test_output_of_a_device_for_an_image_of_the_host(self):
        image = np.zeros((6, 8), np.float32)
        with pytest.raises(InvalidArgumentError, match="accepted: an array on the host"):
            _validate.output(device_array(image), image)

    def test_shared_memory(self):
        frame = np.zeros((12, 8), np.float32)
        with pytest.raises(InvalidArgumentError, match="shares memory with image"):
            _validate.output(device_array(frame[3:9]), device_array(frame[:6]))
        assert _validate.output(device_array(frame[1::2]), device_array(frame[::2]))

    @pytest.mark.usefixtures("simulated")
    def test_read_only_output(self):
        sealed = IMAGE.copy()
        sealed.flags.writeable = False
        out = arrays.describe("out", Foreign(sealed))
        with pytest.raises(InvalidArgumentError, match="read-only"):
            _validate.output(out, arrays.describe("image", Foreign(IMAGE)))

    @pytest.mark.usefixtures("simulated")
    @pytest.mark.parametrize("name", ["cpu", "reference"])
    def test_backends_of_the_host_refuse(self, name):
        told = f"backend: received '{name}' with an image on a CUDA device; accepted: 'cuda', 'auto'"
        with pytest.raises(InvalidArgumentError, match=told):
            sdie.enhance(Foreign(IMAGE), np.ones(6), backend=name)
        with pytest.raises(InvalidArgumentError, match=told):
            sdie.Enhancer(sdie.default_recipe(), name)(Foreign(IMAGE))

    @pytest.mark.usefixtures("simulated")
    def test_weights_on_a_device(self):
        with pytest.raises(InvalidTypeError, match="weights: received a Foreign on a CUDA device"):
            sdie.enhance(Foreign(IMAGE), Foreign(np.ones(6)))


class TestCapture:
    """A stream that is being captured into a graph of the caller's."""

    told = r"image: received an array whose stream is being captured, as by torch.cuda.graph; accepted: .*outside"

    def test_is_refused(self, monkeypatch):
        monkeypatch.setattr(streams, "captured", lambda handle: handle == 12345)
        assert arrays.describe("image", device_array(IMAGE, stream=12345))  # it was asked about before
        if driver.simulated():
            assert arrays.describe("image", Foreign(IMAGE, 1)).stream == 1
            with pytest.raises(InvalidArgumentError, match=self.told):
                sdie.enhance(Foreign(IMAGE, 12345), np.ones(6))

    def test_by_the_driver(self, cuda):
        if driver.simulated():
            pytest.skip("the simulator has no graphs")
        binding, stream = driver.binding(), streams.own()
        image, out = (cuda.device_array((9, 9), np.uint8, stream=stream) for _ in range(2))
        mode = binding.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
        streams.call("cuStreamBeginCapture", stream.handle, mode)
        try:
            with pytest.raises(InvalidArgumentError, match=self.told):
                sdie.enhance(image, np.ones(6), out=out)
        finally:
            graph = streams.call("cuStreamEndCapture", stream.handle)
        binding.cuGraphDestroy(graph)
        sdie.enhance(image, [1, 0, 1, 0, 0, 0], out=out)


class TestOrder:
    """Events between streams, told by a driver that writes down what it is asked for."""

    @pytest.fixture
    def log(self, monkeypatch):
        log = []

        class Event:
            def record(self, stream):
                log.append(("record", stream))

            def wait(self, stream):
                log.append(("wait", stream))

        monkeypatch.setattr(streams, "event", Event)
        monkeypatch.setattr(streams, "stream", lambda handle: f"stream {handle}")
        return log

    def test_one_stream_needs_no_event(self, log):
        with arrays.ordered(device_array(IMAGE), device_array(IMAGE)) as stream:
            assert stream == "stream 1"
        assert log == []

    def test_two_streams(self, log):
        with arrays.ordered(device_array(IMAGE, stream=5), device_array(IMAGE, stream=9)) as stream:
            assert stream == "stream 5"
            assert log == [("record", "stream 9"), ("wait", "stream 5")]
            log.clear()
        assert log == [("record", "stream 5"), ("wait", "stream 9")]


@pytest.fixture
def torch_gpu():
    """torch on the GPU."""
    if driver.simulated():
        pytest.skip("torch has no simulator: on a GPU only")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return torch


class TestRealLibraries:
    """On a GPU: what the fakes above stand for."""

    params = sdie.FilterParams(wls_solver="fast")
    weights = np.ones((2, 6))

    def expected(self, image):
        return sdie.enhance(image, self.weights, params=self.params, backend="cpu").astype(float)

    def test_torch_in_torch_out(self, torch_gpu, rng, picture):
        for dtype in (np.uint8, np.float32):
            image = picture(rng, (3, 50, 60), dtype)
            given = torch_gpu.from_numpy(image).cuda()
            result = sdie.enhance(given, self.weights, params=self.params)
            assert isinstance(result, torch_gpu.Tensor)
            assert result.device == given.device
            assert result.dtype == given.dtype
            np.testing.assert_allclose(
                result.cpu().numpy().astype(float), self.expected(image), atol=2 if dtype == np.uint8 else 1 / 255
            )

    def test_the_order_of_a_stream_is_kept(self, torch_gpu, rng, picture):
        image = picture(rng, (4, 200, 200), np.uint8)
        given = torch_gpu.zeros(image.shape, dtype=torch_gpu.uint8, device="cuda")
        source = torch_gpu.from_numpy(image).cuda()
        warm = sdie.enhance(given, self.weights, params=self.params)
        busy = torch_gpu.randn(4096, 4096, device="cuda")
        torch_gpu.cuda.synchronize()
        side = torch_gpu.cuda.Stream()
        with torch_gpu.cuda.stream(side):
            for _ in range(20):
                busy = busy @ busy
                busy /= busy.norm()
            given.copy_(source)  # some milliseconds from now
            result = sdie.enhance(given, self.weights, params=self.params, out=warm)
            given.zero_()  # after it was read
            after = result.clone()
        side.synchronize()
        np.testing.assert_allclose(after.cpu().numpy().astype(float), self.expected(image), atol=2)

    def test_strided_views(self, torch_gpu, rng, picture):
        image = picture(rng, (50, 120), np.uint8)
        frame = torch_gpu.zeros(60, 200, dtype=torch_gpu.uint8, device="cuda")
        out = frame[5:55, 20:140:2]
        given = torch_gpu.from_numpy(image).cuda()[:, ::2]
        assert sdie.enhance(given, self.weights, params=self.params, out=out) is out
        expected = self.expected(np.ascontiguousarray(image[:, ::2]))
        np.testing.assert_allclose(out.cpu().numpy().astype(float), expected, atol=2)
        out.zero_()
        assert not frame.any()

    def test_dlpack_of_torch(self, torch_gpu, rng, picture):
        class Opaque:
            def __init__(self, tensor):
                self.__dlpack__ = tensor.__dlpack__
                self.__dlpack_device__ = tensor.__dlpack_device__

        image = picture(rng, (50, 60), np.uint8)
        given = Opaque(torch_gpu.from_numpy(image).cuda())
        result = sdie.enhance(given, self.weights, params=self.params)
        np.testing.assert_allclose(
            torch_gpu.as_tensor(result, device="cuda").cpu().numpy().astype(float), self.expected(image), atol=2
        )

    def test_a_tensor_on_another_gpu(self, torch_gpu):
        if torch_gpu.cuda.device_count() < 2:
            pytest.skip("needs two GPUs")
        given = torch_gpu.zeros(9, 9, dtype=torch_gpu.uint8, device="cuda:1")
        with pytest.raises(InvalidArgumentError, match=r"on CUDA device 1; .*torch.cuda.device\(1\)"):
            sdie.enhance(given, np.ones(6))

    def test_cupy_in_cupy_out(self, rng, picture):
        if driver.simulated():
            pytest.skip("CuPy has no simulator: on a GPU only")
        library = pytest.importorskip("cupy")
        image = picture(rng, (2, 50, 60), np.uint8)
        with library.cuda.Stream(non_blocking=True) as stream:
            result = sdie.enhance(library.asarray(image), self.weights, params=self.params)
            assert isinstance(result, library.ndarray)
            found = library.asnumpy(result, stream=stream)
        np.testing.assert_allclose(found.astype(float), self.expected(image), atol=2)
