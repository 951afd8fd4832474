"""What is run to compare where no file is given: a few built-in texts."""

from runtime.bundle.reader import Bundle
from runtime.text.from_bundle import open_tokenizer
from runtime.text.template import Message, encode_chat

__all__ = ["default_sequences"]

LONGEST_TEXT = 128  # tokens taken of a built-in text

# Questions through the template, each with the beginning of an answer.
DIALOGUES = (
    ("请用一句话介绍你自己。", "我是一个运行在边缘设备上的助手，可以回答问题，也可以帮助你写作。"),
    ("Why is the sky blue?", "Because air scatters blue light more strongly than red light."),
)
TEXTS = (
    "边缘设备放在数据产生的地方，所以回答不必经过遥远的机房。模型先在工作站上编译成静态的计算图，再复制到"
    "设备上运行。每生成一个词，设备都要把全部权重读一遍，因此内存的带宽决定了速度。",
    "A river begins as a small stream in the mountains. On its way to the sea it is joined by many "
    "others, and it grows wider and slower. Towns were built on its banks, because water carries "
    "goods more easily than roads do.",
    "水在零摄氏度结冰，在一百摄氏度沸腾，但是气压降低的时候沸点也会降低。在高山上煮鸡蛋需要更长的时间，"
    "因为那里的水不到一百度就已经沸腾了。",
    "def area(width, height):\n    return width * height\n\n\nfor size in range(1, 4):\n"
    "    print(size, area(size, 2 * size))\n",
    "1. 打开电源，等待指示灯变成绿色。\n2. 用网线连接设备和电脑。\n3. 在浏览器里输入设备的地址。\n"
    "4. 如果页面没有出现，请检查网线，然后重新启动设备。\n",
)


def default_sequences(bundle: Bundle) -> list[list[int]]:
    """The built-in texts as token ids of the bundle's tokenizer."""
    tokenizer = open_tokenizer(bundle)
    sequences = [tokenizer.encode(text, add_bos=True) for text in TEXTS]
    for question, answer in DIALOGUES:
        prompt = encode_chat(tokenizer, [Message(role="user", content=question)])
        sequences.append(prompt + tokenizer.encode(answer))
    return [ids[:LONGEST_TEXT] for ids in sequences]
