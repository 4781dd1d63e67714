// Prints what an exported detector finds in an image: detect MODEL.onnx IMAGE.jpg [DRAWN.ppm]
// The model was written by `detect export --nms`; a line is a class, its score and x1 y1 x2 y2 in pixels, and of a model
// with masks the number of pixels of the object. Masks are drawn on a copy of the image, if a file for it is named.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <openvino/openvino.hpp>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include <jpeglib.h>  // after <cstdio>, whose FILE it needs

struct Image {
    int height, width;
    std::vector<unsigned char> rgb;
};

Image read_jpeg(const char* path) {
    std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "rb"), std::fclose);
    if (!file) throw std::runtime_error(std::string(path) + " cannot be opened");
    jpeg_decompress_struct info;
    jpeg_error_mgr error;
    info.err = jpeg_std_error(&error);
    jpeg_create_decompress(&info);
    jpeg_stdio_src(&info, file.get());
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    Image image{int(info.output_height), int(info.output_width), {}};
    image.rgb.resize(3 * image.height * image.width);
    while (info.output_scanline < info.output_height) {
        JSAMPROW row = &image.rgb[3 * image.width * info.output_scanline];
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    return image;
}

// What the file says of itself is one JSON object; of a field the first thing that `pattern` matches behind its name.
std::string field(const std::string& about, const std::string& name, const std::string& pattern) {
    std::smatch match;
    if (!std::regex_search(about, match, std::regex("\"" + name + "\": " + pattern)))
        throw std::runtime_error("the model says nothing of its " + name);
    return match[1];
}

bool is_true(const std::string& about, const std::string& name) {
    return field(about, name, "(true|false)") == "true";
}

std::vector<std::string> names(const std::string& about) {
    const std::string list = field(about, "names", "\\[(.*?)\\]");
    std::vector<std::string> found;
    const std::regex name("\"((?:[^\"\\\\]|\\\\.)*)\"");
    for (std::sregex_iterator one(list.begin(), list.end(), name), none; one != none; ++one) found.push_back((*one)[1]);
    return found;
}

// Where one side of an image lies on its canvas: its pixels on the canvas, from `start` on.
struct Side {
    int inner, canvas, start;
};

Side fit(int length, double ratio, const std::string& about) {
    const int size = std::stoi(field(about, "size", "(\\d+)")), stride = std::stoi(field(about, "stride", "(\\d+)"));
    const bool stretch = is_true(about, "stretch"), whole = stretch || is_true(about, "square");
    const int inner = stretch ? size : std::max(1, int(std::nearbyint(length * ratio)));
    const int canvas = whole ? size : (inner + stride - 1) / stride * stride;
    const bool centred = field(about, "alignment", "\"(\\w+)\"") == "center";
    return {inner, canvas, centred ? (canvas - inner) / 2 : 0};
}

// For each of `count` pixels along a side the source pixels it is made of, with their weights: the area it covers where
// the image becomes less than half as large, else the two nearest.
std::vector<std::vector<std::pair<int, float>>> taps(int length, int count, bool area) {
    std::vector<std::vector<std::pair<int, float>>> result(count);
    const double step = double(length) / count;
    for (int i = 0; i < count; ++i) {
        if (area) {
            const double start = i * step, end = std::min((i + 1) * step, double(length));
            for (int j = int(start); j < end - 1e-9; ++j)
                result[i].push_back({j, float((std::min(j + 1.0, end) - std::max(double(j), start)) / (end - start))});
        } else {
            const double place = (i + 0.5) * step - 0.5, low = std::floor(place);
            result[i] = {{std::clamp(int(low), 0, length - 1), float(1 - place + low)},
                         {std::clamp(int(low) + 1, 0, length - 1), float(place - low)}};
        }
    }
    return result;
}

// Draws the image onto the canvas (3, height, width).
void draw(const Image& from, Side y, Side x, unsigned char* canvas) {
    const bool area = 2 * x.inner < from.width || 2 * y.inner < from.height;
    const auto rows = taps(from.height, y.inner, area), columns = taps(from.width, x.inner, area);
    std::vector<float> row(3 * from.width);
    for (int i = 0; i < y.inner; ++i) {
        std::fill(row.begin(), row.end(), 0.0f);
        for (const auto& [source, weight] : rows[i])
            for (size_t k = 0; k < row.size(); ++k) row[k] += weight * from.rgb[row.size() * source + k];
        for (int j = 0; j < x.inner; ++j)
            for (int c = 0; c < 3; ++c) {
                float value = 0;
                for (const auto& [source, weight] : columns[j]) value += weight * row[3 * source + c];
                canvas[(c * y.canvas + y.start + i) * x.canvas + x.start + j] = (unsigned char)(value + 0.5f);
            }
    }
}

// Pixels of the image along a side as places between the cells of a map, of which the first has its centre at 0.
struct Places {
    std::vector<int> low, high;
    std::vector<float> part;
};

Places places(int start, int end, double scale, Side side, int cells) {
    const double stride = std::exp2(std::round(std::log2(double(side.canvas) / cells)));
    Places result;
    for (int i = start; i < end; ++i) {
        const double place = std::clamp(((i + 0.5) * scale + side.start) / stride - 0.5, 0.0, cells - 1.0);
        result.low.push_back(int(place));
        result.high.push_back(std::min(int(place) + 1, cells - 1));
        result.part.push_back(float(place - int(place)));
    }
    return result;
}

// Colours the pixels of an object, and counts them: the sum of the prototypes (k, height, width), weighted by the
// coefficients of the object, is above 0 there.
int draw_mask(Image& image, const float* coefficients, const ov::Tensor& prototypes, const Places& y, const Places& x,
              int top, int left, int color) {
    const size_t k = prototypes.get_shape()[1], width = prototypes.get_shape()[3];
    const size_t area = prototypes.get_shape()[2] * width;
    std::vector<float> logits(area, 0.0f);
    for (size_t i = 0; i < k; ++i)
        for (size_t j = 0; j < area; ++j) logits[j] += coefficients[i] * prototypes.data<float>()[i * area + j];
    int count = 0;
    for (size_t i = 0; i < y.part.size(); ++i)
        for (size_t j = 0; j < x.part.size(); ++j) {
            const auto across = [&](int row) {
                return (1 - x.part[j]) * logits[row * width + x.low[j]] + x.part[j] * logits[row * width + x.high[j]];
            };
            if ((1 - y.part[i]) * across(y.low[i]) + y.part[i] * across(y.high[i]) <= 0) continue;
            unsigned char* pixel = &image.rgb[3 * ((top + i) * image.width + left + j)];
            for (int c = 0; c < 3; ++c) pixel[c] = (unsigned char)((pixel[c] + 255 * (color >> c & 1)) / 2);
            ++count;
        }
    return count;
}

void write_ppm(const Image& image, const char* path) {
    std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "wb"), std::fclose);
    if (!file) throw std::runtime_error(std::string(path) + " cannot be written");
    std::fprintf(file.get(), "P6 %d %d 255\n", image.width, image.height);
    std::fwrite(image.rgb.data(), 1, image.rgb.size(), file.get());
}

int main(int count, char** arguments) try {
    if (count != 3 && count != 4) throw std::runtime_error("usage: detect MODEL.onnx IMAGE.jpg [DRAWN.ppm]");
    const auto model = ov::Core().read_model(arguments[1]);
    const auto about = model->get_rt_info<std::string>("framework", "gridhead");
    if (!is_true(about, "suppressed")) throw std::runtime_error("export the model with --nms");
    Image image = read_jpeg(arguments[2]);
    const double size = std::stod(field(about, "size", "(\\d+)"));
    const double ratio = std::min(size / image.height, size / image.width);
    const Side y = fit(image.height, ratio, about), x = fit(image.width, ratio, about);
    ov::Tensor images(ov::element::u8, {1, 3, size_t(y.canvas), size_t(x.canvas)});
    std::fill_n(images.data<unsigned char>(), images.get_size(), std::stoi(field(about, "pad", "(\\d+)")));
    draw(image, y, x, images.data<unsigned char>());
    auto compiled = ov::Core().compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();
    request.set_input_tensor(images);
    request.infer();
    const ov::Tensor found = request.get_tensor("found");
    const bool has_masks = model->outputs().size() > 1;
    const auto classes = names(about);
    const double scale_x = double(x.inner) / image.width, scale_y = double(y.inner) / image.height;
    for (size_t i = 0; i < found.get_shape()[0]; ++i) {
        const float* row = found.data<float>() + i * found.get_shape()[1];  // image, x1, y1, x2, y2, score, label, more
        const auto at = [](float v, Side side, double scale, int most) {
            return std::clamp((v - side.start) / scale, 0.0, double(most));
        };
        const double x1 = at(row[1], x, scale_x, image.width), y1 = at(row[2], y, scale_y, image.height);
        const double x2 = at(row[3], x, scale_x, image.width), y2 = at(row[4], y, scale_y, image.height);
        std::printf("%s %.4f %.2f %.2f %.2f %.2f", classes.at(size_t(row[6])).c_str(), row[5], x1, y1, x2, y2);
        if (has_masks) {
            const ov::Tensor prototypes = request.get_tensor("prototypes");
            const int top = int(std::nearbyint(y1)), left = int(std::nearbyint(x1));
            const auto rows = places(top, int(std::nearbyint(y2)), scale_y, y, int(prototypes.get_shape()[2]));
            const auto columns = places(left, int(std::nearbyint(x2)), scale_x, x, int(prototypes.get_shape()[3]));
            std::printf(" %d", draw_mask(image, row + 7, prototypes, rows, columns, top, left, 1 + int(i) % 6));
        }
        std::printf("\n");
    }
    if (count == 4) write_ppm(image, arguments[3]);
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
}
