"""Image sets of a few samples, in the published formats, and the numbers that they then have."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile

import numpy as np

from deqlight.data import CIFAR10, CIFAR100, MNIST, STL10, FashionMNIST, TinyImageNet

SAMPLES = {
    MNIST: {"train": 100, "test": 20},
    FashionMNIST: {"train": 100, "test": 20},
    CIFAR10: {"train": 100, "test": 20},
    CIFAR100: {"train": 400, "test": 100},
    STL10: {"train": 40, "test": 20, "predict": 30},
    TinyImageNet: {"train": 20, "test": 10},
}


def shrink(patch):
    """Let the sets have as many images as those written here."""
    for cls, samples in SAMPLES.items():
        patch.setattr(cls, "samples", samples)


def drawn(cls, part, seed=0):
    """Images and class numbers of a part, every class as often as the next."""
    count = SAMPLES[cls][part]
    rng = np.random.default_rng([seed, count])
    shape = (count, cls.channels, cls.side, cls.side)
    return rng.integers(0, 256, shape, np.uint8), rng.permutation(count) % cls.classes


def md5(data):
    return hashlib.md5(data).hexdigest()


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(cls=MNIST):
    """Name → bytes, in the order of the checksums."""
    files = {}
    for part, name in (("train", "train"), ("test", "t10k")):
        images, labels = drawn(cls, part)
        files[f"{cls.__name__}/raw/{name}-images-idx3-ubyte"] = idx(images[:, 0])
        files[f"{cls.__name__}/raw/{name}-labels-idx1-ubyte"] = idx(labels.astype(np.uint8))
    return files


def cifar_files(cls=CIFAR10):
    files = {}
    for part, names in cls.files.items():
        images, labels = drawn(cls, part)
        heads = [labels // 5, labels] if cls is CIFAR100 else [labels]
        rows = np.concatenate([*(head.astype(np.uint8)[:, None] for head in heads), images.reshape(len(images), -1)], 1)
        for name, block in zip(names, np.array_split(rows, len(names)), strict=True):
            files[name] = block.tobytes()
    return files


def stl_files():
    files = {}
    for part, name in (("train", "train"), ("test", "test"), ("predict", "unlabeled")):
        images, labels = drawn(STL10, part)
        columns = b"".join(channel[:, x].tobytes() for image in images for channel in image for x in range(96))
        files[f"stl10_binary/{name}_X.bin"] = columns
        if part != "predict":
            files[f"stl10_binary/{name}_y.bin"] = bytes(int(label) + 1 for label in labels)
    return files


def jpeg(pixels):
    """A JPEG of an array `(height, width)` or `(height, width, 3)`."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def tiny_imagenet_files():
    """Two classes of the two hundred have images; each is of one colour, those of the first class are grey."""
    wnids = [f"n{9000 - number:08d}" for number in range(200)]  # not sorted
    root = "tiny-imagenet-200"
    files = {f"{root}/wnids.txt": "\n".join(wnids).encode()}
    lines = []
    for number in (0, 1):
        for k in range(10):
            files[f"{root}/train/{wnids[number]}/images/{wnids[number]}_{k}.JPEG"] = jpeg(tone(number, 10 * k))
        for k in range(5):
            name = f"val_{number + 2 * k}.JPEG"
            files[f"{root}/val/images/{name}"] = jpeg(tone(number, 20 * k + 5))
            lines.append(f"{name}\t{wnids[number]}\t0\t0\t63\t63")
    files[f"{root}/val/val_annotations.txt"] = ("\n".join(lines) + "\n").encode()
    files[f"{root}/test/images/test_0.JPEG"] = b"without a label, never read"
    return files


def tone(number, level):
    return np.full((64, 64) if number == 0 else (64, 64, 3), level, np.uint8)


def lay(root, files):
    """Write files unpacked."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tar_gz(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def packed(cls):
    """Archive name → bytes, as the set is published."""
    if cls in (MNIST, FashionMNIST):
        return {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in mnist_files(cls).items()}
    if cls is TinyImageNet:
        return {"tiny-imagenet-200.zip": zipped(tiny_imagenet_files())}
    if cls is STL10:
        return {"stl10_binary.tar.gz": tar_gz(stl_files())}
    return {cls().remotes[0].path: tar_gz(cifar_files(cls))}


def unpacked(cls):
    """File name → bytes."""
    if cls in (MNIST, FashionMNIST):
        return mnist_files(cls)
    if cls is TinyImageNet:
        return tiny_imagenet_files()
    return stl_files() if cls is STL10 else cifar_files(cls)


def publish(patch, cls, root):
    """Write the archives, and let their checksums be the published ones."""
    files = packed(cls)
    lay(root, files)
    vouch(patch, cls, files)
    return files


def vouch(patch, cls, files):
    """Let the checksums of these archives be the published ones."""
    sums = tuple(map(md5, files.values()))
    if cls in (MNIST, FashionMNIST):
        patch.setattr(cls, "sums", sums)
    else:
        patch.setattr(cls, "md5", sums[0])
